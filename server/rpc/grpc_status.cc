#include "server/rpc/grpc_status.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/limits.h"

namespace ckpt {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string text = absl::Utf8SafeCHexEscape(status.message());
  if (text.size() > kErrorBytesMax) {
    constexpr size_t kMarkBytesMax = 40;
    size_t keep = kErrorBytesMax - kMarkBytesMax;
    while (keep > 0 && IsContinuation(text[keep])) --keep;
    const size_t cut = text.size() - keep;
    text.resize(keep);
    absl::StrAppend(&text, " [", cut, " bytes cut]");
  }
  // The numbers of the two enumerations are the same by definition.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), text);
}

}  // namespace ckpt
