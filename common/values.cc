#include "common/values.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/varint.h"

namespace ckpt {
namespace {

constexpr uint64_t kEntryTag = v1::Values::kEntriesFieldNumber << 3 | 2;  // length-delimited
constexpr size_t kEntryBytesMax = kValueInlineBytesMax + 64;

}  // namespace

absl::Status ValidateValues(const v1::Values& values, const PartLayout& layout) {
  auto refuse = [](uint32_t leaf, absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("bad values: leaf ", leaf, ": ", why));
  };
  std::vector<bool> seen(layout.leaves().size(), false);
  for (const v1::Values::Entry& entry : values.entries()) {
    const uint32_t leaf = entry.leaf();
    if (leaf >= seen.size()) return refuse(leaf, absl::StrCat("the layout has ", seen.size()));
    const LeafView view = layout.leaves()[leaf];
    if (view.kind != v1::LEAF_KIND_VALUE) {
      return refuse(leaf, absl::StrCat(Quoted(view.printed_key), " is no plain value"));
    }
    if (seen[leaf]) return refuse(leaf, "it has two values");
    seen[leaf] = true;
    const v1::Value& value = entry.value();
    if (value.kind_case() == v1::Value::KIND_NOT_SET) return refuse(leaf, "a value without a kind");
    if (value.text().size() > kValueInlineBytesMax || value.raw().size() > kValueInlineBytesMax) {
      return refuse(leaf, absl::StrCat("longer than ", kValueInlineBytesMax,
                                       " bytes; it must be stored as a tensor"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Values> ParseValues(absl::string_view serialized, const PartLayout& layout) {
  const auto refuse = [](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("bad values: ", why));
  };
  v1::Values values;
  VarintReader in(serialized);
  while (!in.rest().empty()) {
    const uint64_t tag = in.Varint();
    const absl::string_view message = in.Text();
    if (!in.ok() || tag != kEntryTag) return refuse("they are no serialized Values message");
    if (static_cast<size_t>(values.entries_size()) == layout.leaves().size()) {
      return refuse(absl::StrCat("more than the layout has leaves, ", layout.leaves().size()));
    }
    if (message.size() > kEntryBytesMax) {
      return refuse(absl::StrCat("one of ", message.size(), " bytes; what is longer than ",
                                 kValueInlineBytesMax, " must be stored as a tensor"));
    }
    v1::Values::Entry* entry = values.add_entries();
    if (!entry->ParseFromArray(message.data(), static_cast<int>(message.size()))) {
      return refuse("they are no serialized Values message");
    }
    entry->DiscardUnknownFields();
  }
  CKPT_RETURN_IF_ERROR(ValidateValues(values, layout));
  return values;
}

}  // namespace ckpt
