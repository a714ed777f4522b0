#include "client/cli/torch_file/pickle_writer.h"

#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"
#include "client/cli/torch_file/little_endian.h"

namespace ckpt::cli {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr uint32_t kBundleItems = 1000;  // as Python cuts; it bounds a reader's stack

template <typename T>
std::string Encoded(char opcode, T value) {
  std::string out(1, opcode);
  AppendLittle(value, out);
  return out;
}

}  // namespace

PickleWriter::PickleWriter(absl::FunctionRef<absl::Status(absl::string_view)> sink) : sink_(sink) {
  Put("\x80\x02");
}

void PickleWriter::Put(absl::string_view bytes) {
  buffer_.append(bytes.data(), bytes.size());
  if (buffer_.size() < kBufferBytes) return;
  if (status_.ok()) status_ = sink_(buffer_);
  buffer_.clear();
}

absl::Status PickleWriter::Finish() {
  Put('.');
  if (status_.ok()) status_ = sink_(buffer_);
  buffer_.clear();
  return status_;
}

void PickleWriter::Integer(int64_t value) {
  if (value >= 0 && value <= std::numeric_limits<uint8_t>::max()) {
    Put(Encoded('K', static_cast<uint8_t>(value)));
  } else if (value >= 0 && value <= std::numeric_limits<uint16_t>::max()) {
    Put(Encoded('M', static_cast<uint16_t>(value)));
  } else if (value >= std::numeric_limits<int32_t>::min() &&
             value <= std::numeric_limits<int32_t>::max()) {
    Put(Encoded('J', static_cast<int32_t>(value)));
  } else {
    Put("\x8a\x08");
    Put(Encoded('\0', value).substr(1));
  }
}

void PickleWriter::Real(double value) {
  Put(Encoded('G', __builtin_bswap64(std::bit_cast<uint64_t>(value))));
}

void PickleWriter::Text(absl::string_view utf8) {
  Put(Encoded('X', static_cast<uint32_t>(utf8.size())));
  Put(utf8);
}

// Protocol 2 has no bytes: a string whose characters are the bytes.
void PickleWriter::Bytes(absl::string_view bytes) {
  std::string utf8;
  utf8.reserve(bytes.size());
  for (const char byte : bytes) {
    const auto value = static_cast<uint8_t>(byte);
    if (value >= 0x80) utf8.push_back(static_cast<char>(0xc0 | value >> 6));
    utf8.push_back(static_cast<char>(value >= 0x80 ? 0x80 | (value & 0x3f) : value));
  }
  Global("_codecs", "encode");
  Mark();
  Text(utf8);
  Text("latin1");
  Tuple();
  Call();
}

void PickleWriter::Begin(char begin, char end) {
  Put(begin);
  Mark();
  open_.push_back({.end = end});
}

void PickleWriter::Next() {
  Container& container = open_.back();
  if (container.items == kBundleItems) {
    Put(container.end);
    Mark();
    container.items = 0;
  }
  ++container.items;
}

void PickleWriter::End() {
  Put(open_.back().end);
  open_.pop_back();
}

void PickleWriter::IntegerTuple(absl::Span<const uint64_t> values) {
  Mark();
  for (const uint64_t value : values) Integer(static_cast<int64_t>(value));
  Tuple();
}

void PickleWriter::Global(absl::string_view module, absl::string_view name) {
  const std::string line = absl::StrCat("c", module, "\n", name, "\n");
  const auto [found, is_new] =
      global_places_.emplace(line, static_cast<uint8_t>(global_places_.size()));
  if (!is_new) {
    Put(Encoded('h', found->second));
    return;
  }
  Put(line);
  Put(Encoded('q', found->second));
}

}  // namespace ckpt::cli
