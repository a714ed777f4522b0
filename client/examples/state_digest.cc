#include "client/examples/state_digest.h"

#include <openssl/evp.h>

#include <memory>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/examples/event_log.h"
#include "client/examples/random_state.h"

namespace train_lm {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
  }
  void Add(const void* data, size_t bytes) { EVP_DigestUpdate(context_.get(), data, bytes); }
  void Add(const torch::Tensor& tensor) {
    const torch::Tensor dense = tensor.detach().contiguous();
    Add(dense.data_ptr(), dense.nbytes());
  }
  std::string Hex() {
    unsigned char digest[32];
    EVP_DigestFinal_ex(context_.get(), digest, nullptr);
    return absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), 32));
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

std::string ParametersDigest(const ShardedAdamW& optimizer) {
  Sha256 hash;
  for (const auto& rows : optimizer.rows()) hash.Add(rows.parameter);
  return hash.Hex();
}

std::string OptimizerDigest(const ShardedAdamW& optimizer) {
  Sha256 hash;
  for (const auto& rows : optimizer.rows()) {
    if (rows.mine.numel() == 0) continue;
    const torch::optim::AdamWParamState& state = optimizer.state(rows);
    const int64_t step = state.step();
    hash.Add(&step, sizeof(step));
    hash.Add(state.exp_avg());
    hash.Add(state.exp_avg_sq());
  }
  return hash.Hex();
}

std::string ReaderDigest(const ReaderPosition& reader) {
  Sha256 hash;
  hash.Add(&reader.epoch, sizeof(reader.epoch));
  hash.Add(&reader.window, sizeof(reader.window));
  hash.Add(&reader.random_state, sizeof(reader.random_state));
  hash.Add(RandomState());
  return hash.Hex();
}

}  // namespace

absl::Status WriteStateDigests(const std::string& path, int64_t step, const ShardedAdamW& optimizer,
                               const ReaderPosition& reader, DataParallel& group) {
  const std::vector<std::string> parameters = group.GatherBytes(ParametersDigest(optimizer));
  const std::vector<std::string> others =
      group.GatherBytes(OptimizerDigest(optimizer) + ReaderDigest(reader));
  for (const std::string& digest : parameters) {
    if (digest != parameters[0]) {
      return absl::InternalError(absl::StrCat("the ranks' parameters differ at step ", step));
    }
  }
  if (group.rank() != 0) return absl::OkStatus();
  std::string lines = absl::StrFormat("step %06d parameters %s", step, parameters[0]);
  for (int rank = 0; rank < group.ranks(); ++rank) {
    absl::StrAppendFormat(&lines, "\nstep %06d rank %d optimizer %s reader %s", step, rank,
                          others[rank].substr(0, 64), others[rank].substr(64));
  }
  return AppendLine(path, lines);
}

}  // namespace train_lm
