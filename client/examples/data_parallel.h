// The ranks of one launch and what they do together: c10d's Gloo over loopback. Every operation is
// called by all ranks in the same order; sums are added in one order for a given number of ranks,
// so that the same run gives the same bits. Throws c10::Error when another rank is gone.
#ifndef CKPT_CLIENT_EXAMPLES_DATA_PARALLEL_H_
#define CKPT_CLIENT_EXAMPLES_DATA_PARALLEL_H_

#include <torch/torch.h>

#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace train_lm {

class DataParallel {
 public:
  // Returns when all ranks are there. `rendezvous`: a file that no earlier launch has used.
  DataParallel(const std::string& rendezvous, int rank, int ranks);

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  c10::intrusive_ptr<c10d::ProcessGroup> group() const { return group_; }

  // In place; dense tensors.
  void Average(torch::Tensor tensor);
  void BroadcastFromFirst(torch::Tensor tensor);
  // [ranks, n] out of each rank's [n].
  void Gather(const torch::Tensor& mine, torch::Tensor& all);
  // Rank 0's bytes, on every rank; the same length everywhere.
  std::string FromFirst(std::string bytes);
  // Each rank's bytes, in rank order; the same length everywhere.
  std::vector<std::string> GatherBytes(const std::string& bytes);
  void Barrier();

 private:
  int rank_;
  int ranks_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_DATA_PARALLEL_H_
