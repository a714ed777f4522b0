#include "server/rpc/page_token.h"

#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/limits.h"

namespace ckpt {
namespace {

constexpr char kTokenVersion = 1;
constexpr size_t kTokenBytesMax = 2 * kKeyBytesMax;  // a page may end at the longest key

uint64_t Check(absl::string_view question, absl::string_view position) {
  return Xxh3(absl::StrCat(question.size(), ":", question, position));
}

}  // namespace

std::string MakePageToken(absl::string_view question, absl::string_view position) {
  const uint64_t check = Check(question, position);
  std::string raw(1, kTokenVersion);
  raw.append(reinterpret_cast<const char*>(&check), sizeof(check));
  raw.append(position.data(), position.size());
  return absl::WebSafeBase64Escape(raw);
}

absl::StatusOr<std::string> OpenPageToken(absl::string_view question, absl::string_view token) {
  const absl::Status refused = absl::InvalidArgumentError(
      "page_token is not one that this call returned for the same request; start again without it");
  std::string raw;
  if (token.size() > kTokenBytesMax || !absl::WebSafeBase64Unescape(token, &raw)) return refused;
  uint64_t check = 0;
  if (raw.size() < 1 + sizeof(check) || raw[0] != kTokenVersion) return refused;
  std::memcpy(&check, raw.data() + 1, sizeof(check));
  std::string position = raw.substr(1 + sizeof(check));
  if (check != Check(question, position)) return refused;
  return position;
}

absl::StatusOr<uint32_t> PageItems(uint32_t page_size) {
  if (page_size > kPageItemsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size must be at most ", kPageItemsMax, ", got ", page_size));
  }
  return page_size == 0 ? kPageItemsDefault : page_size;
}

}  // namespace ckpt
