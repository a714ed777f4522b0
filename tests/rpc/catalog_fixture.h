// The catalogue's calls over a real index and data folder.
#ifndef CKPT_TESTS_RPC_CATALOG_FIXTURE_H_
#define CKPT_TESTS_RPC_CATALOG_FIXTURE_H_

#include <string>
#include <vector>

#include "tests/rpc/rpc_fixture.h"

namespace ckpt {

class CatalogTest : public RpcTest {
 protected:
  absl::StatusOr<v1::ListCheckpointsResponse> List(const v1::ListCheckpointsRequest& request) {
    v1::ListCheckpointsResponse response;
    const absl::Status status = ListCheckpoints(*catalog_, request, response);
    if (!status.ok()) return status;
    return response;
  }
  absl::StatusOr<v1::GetCheckpointResponse> Get(const v1::Selector& selector) {
    v1::GetCheckpointRequest request;
    *request.mutable_selector() = selector;
    v1::GetCheckpointResponse response;
    const absl::Status status = GetCheckpoint(*catalog_, request, Never, response);
    if (!status.ok()) return status;
    return response;
  }
  absl::Status Delete(const v1::Selector& selector) {
    v1::DeleteCheckpointRequest request;
    *request.mutable_selector() = selector;
    v1::DeleteCheckpointResponse response;
    return DeleteCheckpoint(*catalog_, request, Never, response);
  }
  absl::Status Tag(const v1::Selector& selector, const std::vector<std::string>& add,
                   const std::vector<std::string>& remove = {}) {
    v1::TagCheckpointRequest request;
    *request.mutable_selector() = selector;
    for (const std::string& tag : add) request.add_add(tag);
    for (const std::string& tag : remove) request.add_remove(tag);
    v1::TagCheckpointResponse response;
    return TagCheckpoint(*catalog_, request, Never, response);
  }
  static v1::Selector TagOf(const std::string& run, const std::string& tag) {
    v1::Selector selector;
    selector.set_run(run);
    selector.set_tag(tag);
    return selector;
  }
  static std::vector<uint64_t> Steps(const v1::ListCheckpointsResponse& response) {
    std::vector<uint64_t> steps;
    for (const auto& info : response.checkpoints()) steps.push_back(info.id().step());
    return steps;
  }
};

}  // namespace ckpt

#endif  // CKPT_TESTS_RPC_CATALOG_FIXTURE_H_
