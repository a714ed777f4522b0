// What one run of train_lm is: the flags of the command line, read once. No Torch.
#ifndef CKPT_CLIENT_EXAMPLES_OPTIONS_H_
#define CKPT_CLIENT_EXAMPLES_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace train_lm {

enum class Role {
  kLaunch,  // start the ranks, wait for them
  kRank,    // be one of them
};

struct Options {
  Role role = Role::kLaunch;

  int ranks = 4;
  int rank = 0;            // kRank
  std::string rendezvous;  // kRank: a file by which the ranks find each other

  // The model and its training.
  int64_t layers = 6;
  int64_t width = 320;
  int64_t heads = 8;
  int64_t context = 64;  // bytes of text
  int64_t batch = 2;     // windows of text per rank and step
  double dropout = 0.1;
  double learning_rate = 5e-4;
  uint64_t seed = 1;
  int64_t steps = 40;

  // Checkpoints; none are made where `run` is empty.
  std::string run;
  std::string socket;
  int64_t save_every = 5;
  bool overlap = true;             // go on with forward and backward while the save is copied
  bool continue_on_error = false;  // a save that fails is reported, and training goes on
  std::vector<int64_t> inspect;    // load these steps, write their digests, don't train

  // events.jsonl, losses.txt and digests.txt go here.
  std::string out;
  bool digest_saves = false;  // digests of the state at every save, not only at the end
};

// Reads the command line. Says what is wrong on stderr and exits with 2 where it is nonsense.
Options ParseOptions(int argc, char** argv);

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_OPTIONS_H_
