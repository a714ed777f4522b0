#include "client/examples/options.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

ABSL_FLAG(int, ranks, 4, "Rank processes");
ABSL_FLAG(int, rank, -1, "Which rank this process is (set by launch)");
ABSL_FLAG(std::string, rendezvous, "", "File by which the ranks find each other (set by launch)");
ABSL_FLAG(int64_t, layers, 6, "Transformer blocks");
ABSL_FLAG(int64_t, width, 320, "Width of the model; a multiple of heads");
ABSL_FLAG(int64_t, heads, 8, "Attention heads");
ABSL_FLAG(int64_t, context, 64, "Bytes of text that the model sees at once");
ABSL_FLAG(int64_t, batch, 2, "Windows of text per rank and step");
ABSL_FLAG(double, dropout, 0.1, "Dropout probability (makes the random state matter)");
ABSL_FLAG(double, learning_rate, 5e-4, "AdamW's learning rate, after ten steps of warming up");
ABSL_FLAG(uint64_t, seed, 1, "Seed of text, weights, data order and dropout");
ABSL_FLAG(int64_t, steps, 40, "Train up to this step");
ABSL_FLAG(std::string, run, "", "Name of the run in ckptd; empty: no checkpoints");
ABSL_FLAG(std::string, socket, "", "ckptd's socket; empty: $CKPTD_SOCKET, then its usual place");
ABSL_FLAG(int64_t, save_every, 5, "Steps between checkpoints");
ABSL_FLAG(bool, overlap, true, "Go on with forward and backward while a save is copied");
ABSL_FLAG(bool, continue_on_error, false, "Train on where a save fails, instead of stopping");
ABSL_FLAG(std::string, inspect, "",
          "Load these steps (comma separated), write their digests, train nothing");
ABSL_FLAG(std::string, out, ".",
          "Folder for events.jsonl, losses.txt and digests.txt; made where it is missing");
ABSL_FLAG(bool, digest_saves, false,
          "Write digests of the state at every save, not only at the end");

namespace train_lm {
namespace {

constexpr char kUsage[] =
    "Trains a small transformer language model on text that it makes itself, by several rank\n"
    "processes (data-parallel, AdamW's state sharded over the ranks), and checkpoints through\n"
    "ckptd without waiting for the disk. Starts where the run's latest checkpoint was.\n\n"
    "  train_lm launch --run=demo/lm --socket=/run/ckptd/ckptd.sock --steps=40 --out=out";

[[noreturn]] void Refuse(const std::string& what) {
  std::fprintf(stderr, "train_lm: %s (see train_lm --help)\n", what.c_str());
  std::exit(2);
}

void Require(bool good, const std::string& what) {
  if (!good) Refuse(what);
}

// Abseil's own --help looks for flags in a file named like the program, and ends with 1.
void HelpIfAsked(int argc, char** argv) {
  const bool asked = std::any_of(argv, argv + argc, [](absl::string_view word) {
    return word == "--help" || word == "-help" || word == "-h";
  });
  if (!asked) return;
  std::printf("%s\n\nFlags:\n", kUsage);
  std::map<absl::string_view, const absl::CommandLineFlag*> flags;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (absl::EndsWith(flag->Filename(), "client/examples/options.cc")) flags[name] = flag;
  }
  for (const auto& [name, flag] : flags) {
    std::printf("  --%s=%s  %s\n", std::string(name).c_str(), flag->DefaultValue().c_str(),
                flag->Help().c_str());
  }
  std::exit(0);
}

}  // namespace

Options ParseOptions(int argc, char** argv) {
  HelpIfAsked(argc, argv);
  absl::SetProgramUsageMessage(kUsage);
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  Require(words.size() == 2, "expects one word beside its flags: launch");
  const std::string role = words[1];
  Options options;
  if (role == "rank") {
    options.role = Role::kRank;
  } else if (role != "launch") {
    Refuse(absl::StrCat("unknown word \"", role, "\", expected launch"));
  }
  options.ranks = absl::GetFlag(FLAGS_ranks);
  options.rank = absl::GetFlag(FLAGS_rank);
  options.rendezvous = absl::GetFlag(FLAGS_rendezvous);
  options.layers = absl::GetFlag(FLAGS_layers);
  options.width = absl::GetFlag(FLAGS_width);
  options.heads = absl::GetFlag(FLAGS_heads);
  options.context = absl::GetFlag(FLAGS_context);
  options.batch = absl::GetFlag(FLAGS_batch);
  options.dropout = absl::GetFlag(FLAGS_dropout);
  options.learning_rate = absl::GetFlag(FLAGS_learning_rate);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.steps = absl::GetFlag(FLAGS_steps);
  options.run = absl::GetFlag(FLAGS_run);
  options.socket = absl::GetFlag(FLAGS_socket);
  options.save_every = absl::GetFlag(FLAGS_save_every);
  options.overlap = absl::GetFlag(FLAGS_overlap);
  options.continue_on_error = absl::GetFlag(FLAGS_continue_on_error);
  options.out = absl::GetFlag(FLAGS_out);
  options.digest_saves = absl::GetFlag(FLAGS_digest_saves);
  for (absl::string_view text :
       absl::StrSplit(absl::GetFlag(FLAGS_inspect), ',', absl::SkipEmpty())) {
    int64_t step = 0;
    Require(absl::SimpleAtoi(text, &step) && step >= 0,
            absl::StrCat("--inspect expects steps, got \"", text, "\""));
    options.inspect.push_back(step);
  }

  Require(options.ranks >= 1 && options.ranks <= 64, "--ranks must be 1 to 64");
  if (options.role == Role::kRank) {
    Require(options.rank >= 0 && options.rank < options.ranks && !options.rendezvous.empty(),
            "a rank needs --rank and --rendezvous; use launch");
  }
  Require(options.layers >= 1 && options.heads >= 1 && options.width >= options.heads &&
              options.width % options.heads == 0,
          "--width must be a multiple of --heads, --layers at least 1");
  Require(options.context >= 2 && options.context <= 1024, "--context must be 2 to 1024");
  Require(options.batch >= 1, "--batch must be at least 1");
  Require(options.dropout >= 0 && options.dropout < 1, "--dropout must be in [0, 1)");
  Require(options.steps >= 1, "--steps must be at least 1");
  Require(options.save_every >= 1, "--save_every must be at least 1");
  Require(options.inspect.empty() || !options.run.empty(), "--inspect needs --run");
  return options;
}

}  // namespace train_lm
