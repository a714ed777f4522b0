#include "common/ids.h"

#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <ctime>

namespace ckpt::internal {
namespace {

// getrandom asks the kernel each time: nothing to be inherited by a forked child.
void FillRandom(uint8_t* out, size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = getrandom(out, bytes, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      std::abort();  // a kernel without a random generator: identifiers would collide
    }
    out += got;
    bytes -= static_cast<size_t>(got);
  }
}

// 48 bits of milliseconds and a 12-bit counter within the millisecond, never twice the same and
// never backwards in this process, whatever the clock does. Without a lock, so that a fork in
// another thread cannot leave it held.
uint64_t NextTick() {
  static std::atomic<uint64_t> last{0};
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const uint64_t milliseconds =
      static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
  uint64_t before = last.load(std::memory_order_relaxed);
  uint64_t next;
  do {
    next = std::max(milliseconds << 12, before + 1);
  } while (!last.compare_exchange_weak(before, next, std::memory_order_relaxed));
  return next;
}

}  // namespace

std::array<uint8_t, 16> RandomBytes16() {
  std::array<uint8_t, 16> out;
  do {
    FillRandom(out.data(), out.size());
  } while (out == std::array<uint8_t, 16>{});
  return out;
}

std::array<uint8_t, 16> TimeOrderedBytes16() {
  std::array<uint8_t, 16> out;
  FillRandom(out.data() + 8, 8);  // a forked child that shares the tick still differs here
  const uint64_t tick = NextTick();
  const uint64_t milliseconds = tick >> 12;
  for (int i = 0; i < 6; ++i) out[i] = static_cast<uint8_t>(milliseconds >> (40 - 8 * i));
  out[6] = static_cast<uint8_t>(0x70 | (tick >> 8 & 0x0f));
  out[7] = static_cast<uint8_t>(tick);
  out[8] = static_cast<uint8_t>(0x80 | (out[8] & 0x3f));
  return out;
}

std::string Hex(absl::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const unsigned char byte : bytes) {
    out.push_back(kDigits[byte >> 4]);
    out.push_back(kDigits[byte & 15]);
  }
  return out;
}

bool ParseHex16(absl::string_view hex, std::array<uint8_t, 16>& out) {
  if (hex.size() != 32) return false;
  auto nibble = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  std::array<uint8_t, 16> parsed;
  for (size_t i = 0; i < 16; ++i) {
    const int high = nibble(hex[2 * i]);
    const int low = nibble(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    parsed[i] = static_cast<uint8_t>(high << 4 | low);
  }
  out = parsed;
  return true;
}

}  // namespace ckpt::internal
