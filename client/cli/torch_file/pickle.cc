#include "client/cli/torch_file/pickle.h"

#include <bit>
#include <cstddef>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/torch_file/little_endian.h"
#include "client/cli/torch_file/torch_calls.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

constexpr size_t kStackMax = 1 << 22;
constexpr size_t kObjectsMax = 1 << 25;

// The stack machine that a pickle is a program for. Each step takes constant time, or time in
// proportion to what it takes off the stack, so the whole is linear in the pickle's length.
class PickleReader {
 public:
  explicit PickleReader(absl::string_view bytes) : all_(bytes), rest_(bytes), calls_(pickle_) {}

  absl::StatusOr<Pickle> Run() {
    while (!stopped_) {
      const size_t at = all_.size() - rest_.size();
      absl::Status status = Step();
      if (status.ok() && stack_.size() > kStackMax) status = Refuse("too many values at once");
      if (status.ok() && pickle_.lists.size() + pickle_.dicts.size() + pickle_.tensors.size() >
                             kObjectsMax) {
        status = Refuse("too many containers and tensors");
      }
      if (!status.ok()) {
        return absl::Status(status.code(), absl::StrCat("at byte ", at, ": ", status.message()));
      }
    }
    return std::move(pickle_);
  }

 private:
  static absl::Status Refuse(absl::string_view what) { return absl::InvalidArgumentError(what); }

  absl::Status Step() {
    CKPT_ASSIGN_OR_RETURN(const auto opcode, TakeNumber<uint8_t>());
    switch (opcode) {
      case 0x80:  // PROTO
        return Protocol();
      case 0x95:  // FRAME
        return Frame();
      case '.':
        return Stop();
      case 'N':
        return Push(std::monostate());
      case 0x88:
        return Push(true);
      case 0x89:
        return Push(false);
      case 'J':
        return PushNumber<int32_t>();
      case 'K':
        return PushNumber<uint8_t>();
      case 'M':
        return PushNumber<uint16_t>();
      case 0x8a:
        return PushLong<uint8_t>();
      case 0x8b:
        return PushLong<int32_t>();
      case 'G':
        return PushReal();
      case 'X':
        return PushString<PickleText, uint32_t>();
      case 0x8c:
      case 'U':
        return PushString<PickleText, uint8_t>();
      case 0x8d:
        return PushString<PickleText, uint64_t>();
      case 'T':
        return PushString<PickleText, int32_t>();
      case 'C':
        return PushString<PickleBytes, uint8_t>();
      case 'B':
        return PushString<PickleBytes, uint32_t>();
      case 0x8e:
        return PushString<PickleBytes, uint64_t>();
      default:
        return StepOnStack(opcode);
    }
  }

  absl::Status StepOnStack(uint8_t opcode) {
    switch (opcode) {
      case '(':
        marks_.push_back(stack_.size());
        return absl::OkStatus();
      case ')':
        return PushTuple(0);
      case 0x85:
      case 0x86:
      case 0x87:
        return PushTuple(opcode - 0x84);
      case 't': {
        CKPT_ASSIGN_OR_RETURN(const size_t count, TakeMark());
        return PushTuple(count);
      }
      case ']':
        pickle_.lists.emplace_back();
        return Push(PickleList{Last(pickle_.lists)});
      case '}':
        pickle_.dicts.emplace_back();
        return Push(PickleDict{Last(pickle_.dicts)});
      case 'a':
        return Append(1);
      case 'e': {
        CKPT_ASSIGN_OR_RETURN(const size_t count, TakeMark());
        return Append(count);
      }
      case 's':
        return SetItems(2);
      case 'u': {
        CKPT_ASSIGN_OR_RETURN(const size_t count, TakeMark());
        return SetItems(count);
      }
      case 'q':
        return Put<uint8_t>();
      case 'r':
        return Put<uint32_t>();
      case 0x94:
        return PutAt(static_cast<uint32_t>(memo_.size()));
      case 'h':
        return Get<uint8_t>();
      case 'j':
        return Get<uint32_t>();
      case 'c':
        return Global();
      case 0x93:
        return StackGlobal();
      case 'R':
        return Reduce();
      case 'b':
        return Build();
      case 'Q':
        return PersistentId();
      case 0x8f:
      case 0x90:
      case 0x91:
        return Refuse("refuses a set: a checkpoint has lists and dictionaries");
      default:
        return Refuse(absl::StrFormat(
            "refuses opcode 0x%02x: only tensors, containers and plain values are read", opcode));
    }
  }

  // --- the bytes

  absl::StatusOr<absl::string_view> Take(uint64_t bytes) {
    if (bytes > rest_.size()) return Refuse("the pickle ends too early");
    const absl::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> TakeNumber() {
    CKPT_ASSIGN_OR_RETURN(const absl::string_view taken, Take(sizeof(T)));
    return LoadLittle<T>(taken);
  }

  absl::StatusOr<absl::string_view> TakeLine() {
    const size_t length = rest_.find('\n');
    if (length == absl::string_view::npos) return Refuse("the pickle ends too early");
    const absl::string_view line = rest_.substr(0, length);
    rest_.remove_prefix(length + 1);
    return line;
  }

  absl::Status Protocol() {
    CKPT_ASSIGN_OR_RETURN(const auto protocol, TakeNumber<uint8_t>());
    if (protocol >= 2 && protocol <= 4) return absl::OkStatus();
    return Refuse(absl::StrCat("pickle protocol ", protocol, ", not 2 to 4"));
  }

  absl::Status Frame() {
    CKPT_ASSIGN_OR_RETURN(const auto bytes, TakeNumber<uint64_t>());
    return bytes <= rest_.size() ? absl::OkStatus() : Refuse("the pickle ends too early");
  }

  // --- values

  absl::Status Push(PickleValue value) {
    stack_.push_back(value);
    return absl::OkStatus();
  }

  template <typename T>
  absl::Status PushNumber() {
    CKPT_ASSIGN_OR_RETURN(const T number, TakeNumber<T>());
    return Push(static_cast<int64_t>(number));
  }

  // Two's complement, little-endian, of as many bytes as it needs.
  template <typename Length>
  absl::Status PushLong() {
    CKPT_ASSIGN_OR_RETURN(const absl::string_view digits, TakeSized<Length>());
    if (digits.size() > sizeof(int64_t)) return Push(PickleHugeInteger());
    uint64_t number = !digits.empty() && (digits.back() & 0x80) ? ~uint64_t{0} : 0;
    for (size_t i = digits.size(); i-- > 0;) {
      number = number << 8 | static_cast<uint8_t>(digits[i]);
    }
    return Push(static_cast<int64_t>(number));
  }

  absl::Status PushReal() {
    CKPT_ASSIGN_OR_RETURN(const auto bits, TakeNumber<uint64_t>());
    return Push(std::bit_cast<double>(__builtin_bswap64(bits)));  // big-endian, alone of all
  }

  template <typename Length>
  absl::StatusOr<absl::string_view> TakeSized() {
    CKPT_ASSIGN_OR_RETURN(const auto length, TakeNumber<Length>());
    if (length < Length{0}) return Refuse("a negative length");
    return Take(static_cast<uint64_t>(length));
  }

  template <typename String, typename Length>
  absl::Status PushString() {
    CKPT_ASSIGN_OR_RETURN(const absl::string_view text, TakeSized<Length>());
    return Push(String{text});
  }

  // --- the stack: nothing below the last mark is ever touched

  absl::StatusOr<PickleValue> Pop() {
    CKPT_RETURN_IF_ERROR(Need(1));
    const PickleValue value = stack_.back();
    stack_.pop_back();
    return value;
  }

  absl::Status Need(size_t count) const {
    const size_t floor = marks_.empty() ? 0 : marks_.back();
    return stack_.size() - floor >= count ? absl::OkStatus() : Refuse("the stack is empty");
  }

  // How many values stand above the mark, which is gone afterwards.
  absl::StatusOr<size_t> TakeMark() {
    if (marks_.empty()) return Refuse("a mark is missing");
    const size_t count = stack_.size() - marks_.back();
    marks_.pop_back();
    return count;
  }

  template <typename T>
  static uint32_t Last(const std::vector<T>& objects) {
    return static_cast<uint32_t>(objects.size() - 1);
  }

  absl::Status PushTuple(size_t count) {
    CKPT_RETURN_IF_ERROR(Need(count));
    const auto first = stack_.end() - static_cast<ptrdiff_t>(count);
    pickle_.lists.emplace_back(first, stack_.end());
    stack_.erase(first, stack_.end());
    return Push(PickleList{Last(pickle_.lists), true});
  }

  absl::Status Append(size_t count) {
    CKPT_RETURN_IF_ERROR(Need(count + 1));
    const auto first = stack_.end() - static_cast<ptrdiff_t>(count);
    const auto* list = std::get_if<PickleList>(&*(first - 1));
    if (list == nullptr || list->is_tuple) return Refuse("appends to something that is no list");
    std::vector<PickleValue>& items = pickle_.lists[list->index];
    items.insert(items.end(), first, stack_.end());
    stack_.erase(first, stack_.end());
    return absl::OkStatus();
  }

  absl::Status SetItems(size_t count) {
    CKPT_RETURN_IF_ERROR(Need(count + 1));
    if (count % 2 != 0) return Refuse("a key without a value");
    const auto first = stack_.end() - static_cast<ptrdiff_t>(count);
    const auto* dict = std::get_if<PickleDict>(&*(first - 1));
    if (dict == nullptr) return Refuse("sets items of something that is no dictionary");
    for (auto item = first; item != stack_.end(); item += 2) {
      pickle_.dicts[dict->index].emplace_back(*item, *(item + 1));
    }
    stack_.erase(first, stack_.end());
    return absl::OkStatus();
  }

  absl::Status PutAt(uint32_t place) {
    CKPT_RETURN_IF_ERROR(Need(1));
    memo_[place] = stack_.back();
    return absl::OkStatus();
  }

  template <typename T>
  absl::Status Put() {
    CKPT_ASSIGN_OR_RETURN(const T place, TakeNumber<T>());
    return PutAt(place);
  }

  template <typename T>
  absl::Status Get() {
    CKPT_ASSIGN_OR_RETURN(const T place, TakeNumber<T>());
    const auto found = memo_.find(place);
    if (found == memo_.end()) return Refuse("refers to something that was not there before");
    return Push(found->second);
  }

  // --- what it wants to call

  absl::Status PushGlobal(absl::string_view module, absl::string_view name) {
    CKPT_ASSIGN_OR_RETURN(const TorchGlobal global, FindTorchGlobal(module, name));
    return Push(global);
  }

  absl::Status Global() {
    CKPT_ASSIGN_OR_RETURN(const absl::string_view module, TakeLine());
    CKPT_ASSIGN_OR_RETURN(const absl::string_view name, TakeLine());
    return PushGlobal(module, name);
  }

  absl::Status StackGlobal() {
    CKPT_ASSIGN_OR_RETURN(const PickleValue name, Pop());
    CKPT_ASSIGN_OR_RETURN(const PickleValue module, Pop());
    const auto* name_text = std::get_if<PickleText>(&name);
    const auto* module_text = std::get_if<PickleText>(&module);
    if (name_text == nullptr || module_text == nullptr) return Refuse("a global without a name");
    return PushGlobal(module_text->utf8, name_text->utf8);
  }

  absl::Status Reduce() {
    CKPT_ASSIGN_OR_RETURN(const PickleValue arguments, Pop());
    CKPT_ASSIGN_OR_RETURN(const PickleValue function, Pop());
    const auto* tuple = std::get_if<PickleList>(&arguments);
    const auto* global = std::get_if<TorchGlobal>(&function);
    if (global == nullptr) return Refuse(absl::StrCat("refuses to call ", KindName(function)));
    if (tuple == nullptr || !tuple->is_tuple) return Refuse("a call without arguments");
    CKPT_ASSIGN_OR_RETURN(const PickleValue result,
                          calls_.Call(*global, pickle_.lists[tuple->index]));
    return Push(result);
  }

  // Attributes of a dictionary: the versions that state_dict() notes beside the tensors.
  absl::Status Build() {
    CKPT_ASSIGN_OR_RETURN(const PickleValue state, Pop());
    CKPT_RETURN_IF_ERROR(Need(1));
    if (std::holds_alternative<PickleDict>(stack_.back()) &&
        std::holds_alternative<PickleDict>(state)) {
      return absl::OkStatus();
    }
    return Refuse(absl::StrCat("refuses to set the attributes of ", KindName(stack_.back())));
  }

  absl::Status PersistentId() {
    CKPT_ASSIGN_OR_RETURN(const PickleValue id, Pop());
    CKPT_ASSIGN_OR_RETURN(const PickleValue storage, calls_.LoadStorage(id));
    return Push(storage);
  }

  absl::Status Stop() {
    CKPT_ASSIGN_OR_RETURN(pickle_.root, Pop());
    if (!stack_.empty() || !marks_.empty()) return Refuse("ends with more than one value");
    stopped_ = true;
    return absl::OkStatus();
  }

  const absl::string_view all_;
  absl::string_view rest_;
  Pickle pickle_;
  TorchCalls calls_;
  std::vector<PickleValue> stack_;
  std::vector<size_t> marks_;
  absl::flat_hash_map<uint32_t, PickleValue> memo_;
  bool stopped_ = false;
};

}  // namespace

absl::StatusOr<Pickle> ReadPickle(absl::string_view bytes) { return PickleReader(bytes).Run(); }

absl::string_view KindName(const PickleValue& value) {
  static constexpr absl::string_view kNames[] = {
      "None",   "a bool", "an integer", "a float",      "a string",  "bytes",   "bytes",
      "a huge integer", "a class", "a list or a tuple", "a dictionary", "a storage", "a tensor"};
  static_assert(std::size(kNames) == std::variant_size_v<PickleValue>);
  return kNames[value.index()];
}

}  // namespace ckpt::cli
