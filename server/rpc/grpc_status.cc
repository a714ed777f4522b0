#include "server/rpc/grpc_status.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "common/limits.h"
#include "common/utf8.h"

namespace ckpt {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Line breaks stay; other control bytes, and bytes that are no UTF-8, become \xNN.
std::string Printable(absl::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t bytes = Utf8CharacterBytes(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (bytes == 0 || (first < 0x20 && first != '\n') || first == 0x7F) {
      absl::StrAppendFormat(&out, "\\x%02x", first);
      text.remove_prefix(1);
    } else {
      out.append(text.data(), bytes);
      text.remove_prefix(bytes);
    }
  }
  return out;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string text = Printable(status.message());
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
