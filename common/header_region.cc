// Written as text directly: a part may have a million shards. What is written and what is counted
// is said once, by functions that take either for their `Out`.
#include "common/header_region.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/json_text.h"
#include "common/limits.h"
#include "common/manifest.h"
#include "common/safetensors.h"

namespace ckpt {
namespace {

// Of a shard in the header, beside its name.
constexpr uint64_t kTensorBytesMax = 512;
constexpr uint64_t kNameBytesGrowMax = 6;  // of a byte in JSON
constexpr uint64_t kAroundValuesBytes = 8192;

// Counts what a Writer would write.
class Counter {
 public:
  void Byte(char) { ++bytes_; }
  void Text(absl::string_view text) { bytes_ += text.size(); }
  void Number(uint64_t number) { bytes_ += JsonNumberBytes(number); }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t bytes_ = 0;
};

class Writer {
 public:
  Writer(absl::FunctionRef<absl::StatusOr<absl::Span<char>>()> next,
         absl::FunctionRef<void(absl::Span<const char>)> filled)
      : next_(next), filled_(filled) {}

  ABSL_ATTRIBUTE_ALWAYS_INLINE void Byte(char byte) { Text({&byte, 1}); }
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Text(absl::string_view text) {
    if (text.size() >= Room()) return TextAcross(text);
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Number(uint64_t number) {
    if (Room() < kDigitsMax) return NumberAcross(number);
    at_ = PutNumber(number, at_);
  }
  // The end, after `bytes` bytes, with spaces up to `padded_bytes`.
  absl::Status Finish(uint64_t bytes, uint64_t padded_bytes) {
    Fill();
    if (status_.ok() && filled_bytes_ != bytes) status_ = Miscounted();
    TextAcross(std::string(padded_bytes - bytes, ' '));
    Fill();
    return status_;
  }

 private:
  static constexpr size_t kDigitsMax = 20;

  static char* PutNumber(uint64_t number, char* out) {
    if (number < 10) {
      *out = static_cast<char>('0' + number);
      return out + 1;
    }
    return std::to_chars(out, out + kDigitsMax, number).ptr;
  }
  static absl::Status Miscounted() {
    return absl::InternalError("a header region is not as long as was counted");
  }
  size_t Room() const { return static_cast<size_t>(end_ - at_); }
  void Fill() {
    if (at_ == begin_) return;
    filled_bytes_ += static_cast<uint64_t>(at_ - begin_);
    filled_({begin_, static_cast<size_t>(at_ - begin_)});
    begin_ = at_ = end_ = nullptr;
  }
  ABSL_ATTRIBUTE_NOINLINE void TextAcross(absl::string_view text) {
    while (status_.ok() && !text.empty()) {
      const size_t bytes = std::min(text.size(), Room());
      if (bytes > 0) std::memcpy(at_, text.data(), bytes);
      at_ += bytes;
      text.remove_prefix(bytes);
      if (text.empty()) return;
      Fill();
      absl::StatusOr<absl::Span<char>> piece = next_();
      status_ = piece.status();
      if (status_.ok() && piece->empty()) status_ = Miscounted();
      if (!status_.ok()) return;
      begin_ = at_ = piece->data();
      end_ = begin_ + piece->size();
    }
  }
  ABSL_ATTRIBUTE_NOINLINE void NumberAcross(uint64_t number) {
    char digits[kDigitsMax];
    TextAcross({digits, static_cast<size_t>(PutNumber(number, digits) - digits)});
  }

  const absl::FunctionRef<absl::StatusOr<absl::Span<char>>()> next_;
  const absl::FunctionRef<void(absl::Span<const char>)> filled_;
  absl::Status status_;
  char* begin_ = nullptr;  // of the piece at hand
  char* at_ = nullptr;
  char* end_ = nullptr;
  uint64_t filled_bytes_ = 0;
};

template <typename Out>
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void PutNumbers(absl::Span<const uint64_t> numbers, Out& out) {
  out.Byte('[');
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) out.Byte(',');
    out.Number(numbers[i]);
  }
  out.Byte(']');
}

// Names in one file: a leaf's first box has its key, further ones KEY#1, KEY#2...
class FileNames {
 public:
  explicit FileNames(const LeafTable& leaves) : leaves_(leaves) {}

  // Shards of one leaf come one after another.
  void Next(uint32_t leaf, absl::string_view key) {
    if (leaf != leaf_) {
      leaf_ = leaf;
      next_number_ = 1;
      if (key != kSafetensorsMetadata) return Take(key);
    }
    if (!looked_) {
      // Only keys that look like a generated name can be in the way of one.
      for (size_t i = 0; i < leaves_.size(); ++i) {
        const absl::string_view printed = leaves_.printed_key(i);
        if (printed.find('#') != absl::string_view::npos) taken_.emplace(printed);
      }
      any_taken_ = !taken_.empty();
      looked_ = true;
    }
    do {
      name_.assign(key.data(), key.size());
      absl::StrAppend(&name_, "#", next_number_++);
    } while (any_taken_ && !taken_.insert(name_).second);
    Take(name_);
  }

  // The name with its quotes.
  template <typename Out>
  ABSL_ATTRIBUTE_ALWAYS_INLINE void PutQuoted(Out& out) const {
    out.Byte('"');
    out.Text(escaped_);
    out.Byte('"');
  }
  // The same inside of another JSON string.
  template <typename Out>
  ABSL_ATTRIBUTE_ALWAYS_INLINE void PutQuotedInString(Out& out) {
    out.Text("\\\"");
    if (escaped_.data() == plain_.data()) {
      out.Text(escaped_);
    } else {
      scratch_.clear();
      AppendJsonEscaped(escaped_, scratch_);
      out.Text(scratch_);
    }
    out.Text("\\\"");
  }

 private:
  void Take(absl::string_view name) {
    plain_ = escaped_ = name;
    if (JsonStandsForItself(name)) return;
    escaped_name_.clear();
    AppendJsonEscaped(name, escaped_name_);
    escaped_ = escaped_name_;
  }

  const LeafTable& leaves_;
  bool looked_ = false;
  bool any_taken_ = false;
  absl::flat_hash_set<std::string> taken_;
  std::string name_;
  std::string escaped_name_;
  std::string scratch_;
  absl::string_view plain_;
  absl::string_view escaped_;  // the very bytes of plain_ where nothing is to be escaped
  uint32_t leaf_ = UINT32_MAX;
  uint64_t next_number_ = 1;
};

bool HasNote(const LeafView& leaf, const ShardView& shard) {
  return leaf.shape != shard.extent || leaf.dtype == v1::DTYPE_C64;
}

// As they stand in a JSON string, with every quote escaped: of each shard that is less than its
// tensor, `\"NAME\":{\"shape\":[4],\"offset\":[0],\"extent\":[2]}`.
template <typename Out>
void PutNotes(const PartLayout& layout, const PartLayout::FilePlace& place, Out& out) {
  FileNames names(layout.leaves());
  bool first = true;
  for (uint32_t i = place.first_shard; i < place.first_shard + place.shard_count; ++i) {
    const ShardView shard = layout.shard_boxes()[i];
    const LeafView leaf = layout.leaves()[shard.leaf];
    names.Next(shard.leaf, leaf.printed_key);
    if (!HasNote(leaf, shard)) continue;
    if (!std::exchange(first, false)) out.Byte(',');
    names.PutQuotedInString(out);
    out.Text(":{");
    if (leaf.dtype == v1::DTYPE_C64) out.Text(R"(\"dtype\":\"C64\",)");
    out.Text(R"(\"shape\":)");
    PutNumbers(leaf.shape, out);
    out.Text(R"(,\"offset\":)");
    PutNumbers(shard.offset, out);
    out.Text(R"(,\"extent\":)");
    PutNumbers(shard.extent, out);
    out.Byte('}');
  }
}

// Of each shard ,"NAME":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}
template <typename Out>
void PutTensors(const PartLayout& layout, const PartLayout::FilePlace& place, Out& out) {
  FileNames names(layout.leaves());
  DType dtype = v1::DTYPE_UNSPECIFIED;
  absl::string_view dtype_name;
  for (uint32_t i = place.first_shard; i < place.first_shard + place.shard_count; ++i) {
    const ShardView shard = layout.shard_boxes()[i];
    const LeafView leaf = layout.leaves()[shard.leaf];
    names.Next(shard.leaf, leaf.printed_key);
    if (leaf.dtype != dtype) {
      dtype = leaf.dtype;
      dtype_name = SafetensorsDTypeName(dtype);
    }
    out.Byte(',');
    names.PutQuoted(out);
    out.Text(":{\"dtype\":\"");
    out.Text(dtype_name);
    out.Text("\",\"shape\":");
    if (dtype != v1::DTYPE_C64) {
      PutNumbers(shard.extent, out);
    } else {  // two floats each
      out.Byte('[');
      for (const uint64_t extent : shard.extent) {
        out.Number(extent);
        out.Byte(',');
      }
      out.Text("2]");
    }
    out.Text(",\"data_offsets\":[");
    const PartLayout::ShardPlace& at = layout.shards()[i];
    out.Number(at.part_offset - place.part_offset);
    out.Byte(',');
    out.Number(at.part_offset - place.part_offset + at.length);
    out.Text("]}");
  }
}

void AppendEntry(absl::string_view name, absl::string_view value, std::string& json) {
  if (json.empty() || json.back() != '{') json.push_back(',');
  AppendJsonString(name, json);
  json.push_back(':');
  AppendJsonString(value, json);
}

std::string ValuesJson(const v1::Values& values, const PartLayout& layout) {
  std::string json = "{";
  for (const v1::Values::Entry& entry : values.entries()) {
    if (entry.leaf() >= layout.leaves().size()) continue;
    if (json.size() > 1) json.push_back(',');
    AppendJsonString(layout.leaves().printed_key(entry.leaf()), json);
    json.push_back(':');
    json += ValueToJson(entry.value());
  }
  json.push_back('}');
  return json;
}

constexpr absl::string_view kNotesBegin = ",\"shards\":\"{";
constexpr absl::string_view kNotesEnd = "}\"";

}  // namespace

HeaderRegion::HeaderRegion(const PartLayout& layout, uint32_t file, const v1::Values& values,
                           const CheckpointId& id, uint32_t rank, uint32_t world_size)
    : layout_(layout), place_(layout.files()[file]) {
  before_ = "{\"__metadata__\":{";
  AppendEntry("format", "ckptd", before_);
  AppendEntry("format_version", absl::StrCat(kFormatVersion), before_);
  AppendEntry("run", id.run, before_);
  AppendEntry("step", absl::StrCat(id.step), before_);
  AppendEntry("incarnation", id.incarnation.hex(), before_);
  AppendEntry("rank", absl::StrCat(rank), before_);
  AppendEntry("world_size", absl::StrCat(world_size), before_);

  Counter notes;
  PutNotes(layout_, place_, notes);
  has_notes_ = notes.bytes() > 0;
  Counter tensors;
  PutTensors(layout_, place_, tensors);
  json_bytes_ = kLengthPrefixBytes + before_.size();
  if (has_notes_) json_bytes_ += kNotesBegin.size() + notes.bytes() + kNotesEnd.size();

  if (file == 0 && values.entries_size() > 0) {
    const std::string text = ValuesJson(values, layout_);
    const uint64_t text_bytes = JsonStringBytes(text);
    const auto fit = [&](uint64_t tensors_bytes) {
      return json_bytes_ + tensors_bytes + kAroundValuesBytes + text_bytes < kHeaderBytesMax;
    };
    uint64_t names_bytes = 0;
    for (uint32_t i = 0; i < place_.shard_count; ++i) {
      const uint32_t leaf = layout_.shard_boxes()[place_.first_shard + i].leaf;
      names_bytes += layout_.leaves().printed_key(leaf).size();
    }
    // Either may say so: which values are left out is part of the format.
    if (fit(names_bytes * kNameBytesGrowMax + place_.shard_count * kTensorBytesMax) ||
        fit(tensors.bytes())) {
      AppendEntry("values", text, between_);
    } else {
      AppendEntry("values_omitted", absl::StrCat(text.size(), " bytes"), between_);
    }
  }
  between_ += '}';
  json_bytes_ += between_.size() + tensors.bytes() + 1;
  size_ = (json_bytes_ + kDataAlignmentBytes - 1) / kDataAlignmentBytes * kDataAlignmentBytes;
}

absl::Status HeaderRegion::Write(
    absl::FunctionRef<absl::StatusOr<absl::Span<char>>()> next,
    absl::FunctionRef<void(absl::Span<const char> piece)> filled) const {
  Writer out(next, filled);
  const uint64_t length = size_ - kLengthPrefixBytes;
  for (size_t i = 0; i < kLengthPrefixBytes; ++i) out.Byte(static_cast<char>(length >> (8 * i)));
  out.Text(before_);
  if (has_notes_) {
    out.Text(kNotesBegin);
    PutNotes(layout_, place_, out);
    out.Text(kNotesEnd);
  }
  out.Text(between_);
  PutTensors(layout_, place_, out);
  out.Byte('}');
  return out.Finish(json_bytes_, size_);
}

std::string MakeHeaderRegion(const PartLayout& layout, uint32_t file, const v1::Values& values,
                             const CheckpointId& id, uint32_t rank, uint32_t world_size) {
  const HeaderRegion region(layout, file, values, id, rank, world_size);
  std::string text(region.size(), '\0');
  size_t done = 0;
  const absl::Status written = region.Write(
      [&]() -> absl::StatusOr<absl::Span<char>> {
        if (done == text.size()) return absl::InternalError("a header region has no end");
        return absl::MakeSpan(text).subspan(done);
      },
      [&](absl::Span<const char> piece) { done += piece.size(); });
  assert(written.ok() && done == text.size());
  (void)written;
  return text;
}

}  // namespace ckpt
