#include "client/transport/grpc_status.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace ckpt {

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto retry = trailers.find("retry-after-ms");
  if (status.ok() || retry == trailers.end()) return FromGrpcStatus(status);
  return absl::Status(
      static_cast<absl::StatusCode>(status.error_code()),
      absl::StrCat(status.error_message(), " (retry after ",
                   std::string(retry->second.data(), retry->second.size()), " ms)"));
}

}  // namespace ckpt
