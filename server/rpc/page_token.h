// Tokens of paged lists: opaque to callers, checked when they come back. A token belongs to one
// question (which call, which run, which filter): shown with another question it is refused.
#ifndef CKPT_SERVER_RPC_PAGE_TOKEN_H_
#define CKPT_SERVER_RPC_PAGE_TOKEN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ckpt {

// `position` is where the next page starts, in the call's own terms.
std::string MakePageToken(absl::string_view question, absl::string_view position);
// INVALID_ARGUMENT: not a token of ours, damaged, or of another question.
absl::StatusOr<std::string> OpenPageToken(absl::string_view question, absl::string_view token);

// The items of a page: the default for 0, INVALID_ARGUMENT above LIMIT_PAGE_ITEMS_MAX.
absl::StatusOr<uint32_t> PageItems(uint32_t page_size);

// A page ends early once its items pass this many bytes, so that the answer fits in a message.
inline constexpr size_t kPageBytesMax = 1 << 20;

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PAGE_TOKEN_H_
