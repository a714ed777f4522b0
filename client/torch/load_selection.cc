#include "client/torch/load_selection.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/glob.h"
#include "common/key.h"
#include "common/limits.h"

namespace ckpt {
namespace {

// The daemon compares each leaf with all of them.
constexpr int kPatternsMax = 256;
// A selection travels in one message, with little beside it.
constexpr size_t kSelectionBytesMax = kMessageBytesMax / 2;
constexpr size_t kFieldBytesMax = 8;  // a field's tag and length, beside its bytes

void AppendSegment(const StateKey& key, v1::Key& to) {
  v1::KeySegment& segment = *to.add_segments();
  if (key.name() != nullptr) {
    segment.set_name(*key.name());
  } else {
    segment.set_number(*key.number());
  }
}

// Selects what lies at keys. Each call is false where no selection can say that.
class Narrowing {
 public:
  explicit Narrowing(const LoadOptions& options) : options_(options) {
    result_.selection = options.restore.selection;
    bytes_ = result_.selection.ByteSizeLong();
  }

  // Each dictionary entry by entry, down to single keys.
  bool Want(const StateValue& value, v1::Key& key) {
    const StateDict* dict = value.If<StateDict>();
    if (dict != nullptr && !dict->empty() && !IsRenamed(PrintKey(key))) {
      result_.partial.insert(PrintKey(key));
      return std::all_of(dict->begin(), dict->end(), [&](const StateEntry& entry) {
        AppendSegment(entry.key, key);
        const bool wanted = Want(entry.value, key);
        key.mutable_segments()->RemoveLast();
        return wanted;
      });
    }
    const at::Tensor* tensor = value.If<at::Tensor>();
    if ((tensor != nullptr && tensor->defined()) || value.If<Sharded>() != nullptr) {
      return WantLeaf(key);
    }
    return WantAllAt(key);
  }

  bool WantAllAt(const v1::Key& key) {
    if (!ValidateKey(key).ok()) return false;
    const std::string printed = PrintKey(key);
    v1::Selection& selection = result_.selection;
    if (printed.empty() || ++patterns_ > kPatternsMax) return false;
    if (key.segments_size() == 1) {
      selection.add_include_matching()->set_top_level(printed);
      return Fits(printed.size() + kFieldBytesMax);
    }
    const std::string literal = LiteralGlob(printed);
    const std::string below = absl::StrCat(literal, ".**");
    if (below.size() > kKeyBytesMax) return false;
    selection.add_include(literal);
    selection.add_include(below);
    return Fits(literal.size() + kFieldBytesMax + below.size());
  }

  // With few words: all that lies at `key`, or at the caller's entries of the top level.
  bool WantCoarsely(const StateValue& value, v1::Key& key) {
    const StateDict* dict = value.If<StateDict>();
    if (key.segments_size() > 0 || dict == nullptr || dict->empty() || IsRenamed("")) {
      return WantAllAt(key);
    }
    result_.partial.insert("");
    return std::all_of(dict->begin(), dict->end(), [&](const StateEntry& entry) {
      AppendSegment(entry.key, key);
      const bool wanted = WantAllAt(key);
      key.mutable_segments()->RemoveLast();
      return wanted;
    });
  }

  LoadSelection Take() { return std::move(result_); }

 private:
  // By its exact key: the daemon finds any number of those without looking at what lies between.
  bool WantLeaf(const v1::Key& key) {
    if (!ValidateKey(key).ok()) return false;
    *result_.selection.add_keys() = key;
    return Fits(key.ByteSizeLong());
  }

  bool Fits(size_t bytes) {
    bytes_ += bytes + kFieldBytesMax;
    return bytes_ <= kSelectionBytesMax;
  }

  bool IsRenamed(const std::string& printed) const {
    return std::any_of(options_.renames.begin(), options_.renames.end(),
                       [&](const Rename& rule) { return rule.dictionary == printed; });
  }

  const LoadOptions& options_;
  LoadSelection result_;
  int patterns_ = 0;
  size_t bytes_ = 0;  // of the selection, or a little more
};

}  // namespace

std::optional<LoadSelection> SelectionOfLoad(const StateValue& value,
                                             const std::vector<StateKey>& path,
                                             const LoadOptions& options) {
  const v1::Selection& selection = options.restore.selection;
  const bool says_itself = selection.include_size() > 0 || selection.keys_size() > 0 ||
                           selection.include_matching_size() > 0;
  const bool drops = options.remainder == LoadOptions::Remainder::kDrop;
  if (says_itself || (!drops && path.empty())) return std::nullopt;
  v1::Key key;
  for (const StateKey& segment : path) AppendSegment(segment, key);
  if (drops) {
    Narrowing by_key(options);
    if (by_key.Want(value, key)) return by_key.Take();
  }
  Narrowing coarse(options);
  if (coarse.WantCoarsely(value, key)) return coarse.Take();
  return std::nullopt;
}

}  // namespace ckpt
