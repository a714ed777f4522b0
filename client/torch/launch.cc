#include "client/torch/launch.h"

#include <ATen/ops/empty.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

absl::StatusOr<std::string> Environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') {
    return absl::FailedPreconditionError(
        absl::StrCat("not started by torchrun: the environment has no ", name,
                     ". Share the incarnation through a process group instead"));
  }
  return std::string(value);
}

absl::Status Failed(absl::string_view what, const std::exception& error) {
  return absl::UnavailableError(
      absl::StrCat("sharing the incarnation through ", what, " failed: ", error.what()));
}

}  // namespace

absl::StatusOr<Incarnation> ShareIncarnation(c10d::ProcessGroup& group) {
  try {
    at::Tensor bytes = at::empty({16}, at::TensorOptions().dtype(c10::ScalarType::Byte));
    if (group.getRank() == 0) {
      const std::string made = Incarnation::TimeOrdered().bytes();
      std::memcpy(bytes.data_ptr(), made.data(), made.size());
    }
    std::vector<at::Tensor> tensors{bytes};
    group.broadcast(tensors)->wait();
    return Incarnation::FromBytes(
        absl::string_view(static_cast<const char*>(tensors[0].data_ptr()), 16),
        "the incarnation that rank 0 broadcast");
  } catch (const std::exception& error) {
    return Failed("the process group", error);
  }
}

absl::StatusOr<Incarnation> ShareIncarnation(c10d::Store& store, uint32_t rank,
                                             const std::string& launch_name) {
  try {
    const std::string key = absl::StrCat("ckptd/incarnation/", launch_name);
    if (rank == 0) {
      const std::string made = Incarnation::TimeOrdered().bytes();
      store.set(key, std::vector<uint8_t>(made.begin(), made.end()));
    }
    const std::vector<uint8_t> got = store.get(key);  // waits for it
    return Incarnation::FromBytes(
        absl::string_view(reinterpret_cast<const char*>(got.data()), got.size()),
        "the incarnation in the store");
  } catch (const std::exception& error) {
    return Failed("the store", error);
  }
}

absl::StatusOr<Incarnation> IncarnationFromTorchrun() {
  CKPT_ASSIGN_OR_RETURN(const std::string run_id, Environment("TORCHELASTIC_RUN_ID"));
  CKPT_ASSIGN_OR_RETURN(const std::string restarts, Environment("TORCHELASTIC_RESTART_COUNT"));
  CKPT_ASSIGN_OR_RETURN(const std::string rank_text, Environment("RANK"));
  CKPT_ASSIGN_OR_RETURN(const std::string address, Environment("MASTER_ADDR"));
  CKPT_ASSIGN_OR_RETURN(const std::string port_text, Environment("MASTER_PORT"));
  uint32_t rank = 0;
  uint32_t port = 0;
  if (!absl::SimpleAtoi(rank_text, &rank) || !absl::SimpleAtoi(port_text, &port) || port > 65535) {
    return absl::FailedPreconditionError(
        absl::StrCat("RANK or MASTER_PORT is no number: ", rank_text, ", ", port_text));
  }
  // Only the agent's own store is sure to listen before any rank has made a process group.
  CKPT_ASSIGN_OR_RETURN(const std::string agent_store, Environment("TORCHELASTIC_USE_AGENT_STORE"));
  if (agent_store != "True") {
    return absl::FailedPreconditionError(
        "torchrun's agent shares no store (TORCHELASTIC_USE_AGENT_STORE is not True). Share the "
        "incarnation through a process group instead");
  }
  try {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = false;
    options.waitWorkers = false;
    c10d::TCPStore store(address, options);
    return ShareIncarnation(store, rank, absl::StrCat(run_id, "/", restarts));
  } catch (const std::exception& error) {
    return Failed("torchrun's store", error);
  }
}

}  // namespace ckpt
