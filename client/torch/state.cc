#include "client/torch/state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace ckpt {

StateDict::StateDict() = default;
StateDict::StateDict(std::initializer_list<StateEntry> entries) {
  for (const StateEntry& entry : entries) (*this)[entry.key] = entry.value;
}
StateDict::StateDict(const StateDict&) = default;
StateDict::StateDict(StateDict&&) noexcept = default;
StateDict& StateDict::operator=(const StateDict&) = default;
StateDict& StateDict::operator=(StateDict&&) noexcept = default;
StateDict::~StateDict() = default;

namespace {
constexpr size_t kScannedEntriesMax = 16;
}  // namespace

size_t StateDict::Position(const StateKey& key) const {
  if (entries_.size() > kScannedEntriesMax) {
    const auto found = index_.find(key);
    return found == index_.end() ? entries_.size() : found->second;
  }
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const StateEntry& entry) { return entry.key == key; });
  return static_cast<size_t>(found - entries_.begin());
}
const StateValue* StateDict::Find(const StateKey& key) const {
  const size_t position = Position(key);
  return position == entries_.size() ? nullptr : &entries_[position].value;
}
StateValue* StateDict::Find(const StateKey& key) {
  return const_cast<StateValue*>(static_cast<const StateDict*>(this)->Find(key));
}
StateValue& StateDict::operator[](const StateKey& key) {
  if (StateValue* found = Find(key)) return *found;
  entries_.push_back({key, StateValue()});
  if (entries_.size() > kScannedEntriesMax) {
    for (size_t i = index_.size(); i < entries_.size(); ++i) index_.emplace(entries_[i].key, i);
  }
  return entries_.back().value;
}
bool StateDict::Erase(const StateKey& key) {
  const size_t position = Position(key);
  if (position == entries_.size()) return false;
  entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(position));
  index_.clear();
  for (size_t i = 0; entries_.size() > kScannedEntriesMax && i < entries_.size(); ++i) {
    index_.emplace(entries_[i].key, i);
  }
  return true;
}
size_t StateDict::size() const { return entries_.size(); }
std::vector<StateEntry>::iterator StateDict::begin() { return entries_.begin(); }
std::vector<StateEntry>::iterator StateDict::end() { return entries_.end(); }
std::vector<StateEntry>::const_iterator StateDict::begin() const { return entries_.begin(); }
std::vector<StateEntry>::const_iterator StateDict::end() const { return entries_.end(); }

StateList::StateList() = default;
StateList::StateList(std::initializer_list<StateValue> values) : values_(values) {}
StateList::StateList(const StateList&) = default;
StateList::StateList(StateList&&) noexcept = default;
StateList& StateList::operator=(const StateList&) = default;
StateList& StateList::operator=(StateList&&) noexcept = default;
StateList::~StateList() = default;

void StateList::Add(StateValue value) { values_.push_back(std::move(value)); }
StateValue& StateList::operator[](size_t index) { return values_[index]; }
const StateValue& StateList::operator[](size_t index) const { return values_[index]; }
size_t StateList::size() const { return values_.size(); }
std::vector<StateValue>::iterator StateList::begin() { return values_.begin(); }
std::vector<StateValue>::iterator StateList::end() { return values_.end(); }
std::vector<StateValue>::const_iterator StateList::begin() const { return values_.begin(); }
std::vector<StateValue>::const_iterator StateList::end() const { return values_.end(); }

absl::string_view StateValue::KindName() const {
  static constexpr const char* kNames[] = {"null",
                                           "a boolean",
                                           "an integer",
                                           "a real number",
                                           "a string",
                                           "bytes",
                                           "a tensor",
                                           "a sharded tensor",
                                           "a module",
                                           "an optimizer",
                                           "a sharded optimizer",
                                           "an object with state",
                                           "a stored tensor",
                                           "a dictionary",
                                           "a list"};
  static_assert(std::size(kNames) == std::variant_size_v<Variant>);
  return kNames[value_.index()];
}

namespace {
absl::Status IsNot(const StateValue& value, absl::string_view wanted) {
  return absl::InvalidArgumentError(
      absl::StrCat("the state has ", value.KindName(), " here, not ", wanted));
}
}  // namespace

absl::StatusOr<bool> StateValue::AsBool() const {
  if (const bool* value = If<bool>()) return *value;
  return IsNot(*this, "a boolean");
}
absl::StatusOr<int64_t> StateValue::AsInt() const {
  if (const int64_t* value = If<int64_t>()) return *value;
  return IsNot(*this, "an integer");
}
absl::StatusOr<double> StateValue::AsDouble() const {
  if (const double* value = If<double>()) return *value;
  if (const int64_t* value = If<int64_t>()) return static_cast<double>(*value);
  return IsNot(*this, "a number");
}
absl::StatusOr<std::string> StateValue::AsString() const {
  if (const std::string* value = If<std::string>()) return *value;
  return IsNot(*this, "a string");
}
absl::StatusOr<at::Tensor> StateValue::AsTensor() const {
  if (const at::Tensor* value = If<at::Tensor>()) return *value;
  if (const StoredTensor* value = If<StoredTensor>()) return value->Read();
  return IsNot(*this, "a tensor");
}

StateValue PerRank(StateValue value) {
  value.set_placement(v1::PLACEMENT_PER_RANK);
  return value;
}
StateValue Replicated(StateValue value) {
  value.set_placement(v1::PLACEMENT_REPLICATED);
  return value;
}

}  // namespace ckpt
