// CRC-32C. With SSE4.2: three interleaved streams of the crc32 instruction (its latency is three
// cycles, its throughput one a cycle), joined by tables that advance a CRC over a fixed count of
// zero bytes. Without: slicing by eight.
#include <array>
#include <cstring>

#include "common/digest.h"

namespace ckpt {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected
constexpr size_t kLongBytes = 8192;
constexpr size_t kShortBytes = 256;

using SliceTable = std::array<std::array<uint32_t, 256>, 8>;

constexpr SliceTable MakeSliceTable() {
  SliceTable table{};
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t crc = n;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ kPolynomial : crc >> 1;
    table[0][n] = crc;
  }
  for (uint32_t n = 0; n < 256; ++n) {
    for (size_t k = 1; k < 8; ++k) {
      table[k][n] = (table[k - 1][n] >> 8) ^ table[0][table[k - 1][n] & 0xff];
    }
  }
  return table;
}
constexpr SliceTable kSlice = MakeSliceTable();

// `crc` is inverted already, as everywhere below.
uint32_t Software(uint32_t crc, const unsigned char* data, size_t bytes) {
  for (; bytes >= 8; data += 8, bytes -= 8) {
    uint32_t low, high;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + 4, 4);
    low ^= crc;
    crc = kSlice[7][low & 0xff] ^ kSlice[6][(low >> 8) & 0xff] ^ kSlice[5][(low >> 16) & 0xff] ^
          kSlice[4][low >> 24] ^ kSlice[3][high & 0xff] ^ kSlice[2][(high >> 8) & 0xff] ^
          kSlice[1][(high >> 16) & 0xff] ^ kSlice[0][high >> 24];
  }
  for (; bytes > 0; ++data, --bytes) crc = (crc >> 8) ^ kSlice[0][(crc ^ *data) & 0xff];
  return crc;
}

#if defined(__x86_64__)

// Four tables: the CRC of each byte of a CRC register followed by `zeros` zero bytes.
using ShiftTable = std::array<std::array<uint32_t, 256>, 4>;

ShiftTable MakeShiftTable(size_t zeros) {
  // A CRC register is a vector over GF(2); advancing it over zeros is linear: find where each of
  // its 32 bits goes.
  std::array<uint32_t, 32> columns;
  for (int bit = 0; bit < 32; ++bit) {
    uint32_t crc = uint32_t{1} << bit;
    for (size_t i = 0; i < zeros; ++i) crc = (crc >> 8) ^ kSlice[0][crc & 0xff];
    columns[bit] = crc;
  }
  ShiftTable table;
  for (int byte = 0; byte < 4; ++byte) {
    for (int n = 0; n < 256; ++n) {
      uint32_t crc = 0;
      for (int bit = 0; bit < 8; ++bit) {
        if ((n >> bit & 1) != 0) crc ^= columns[byte * 8 + bit];
      }
      table[byte][n] = crc;
    }
  }
  return table;
}

inline uint64_t Shift(const ShiftTable& table, uint64_t crc) {
  return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^ table[2][(crc >> 16) & 0xff] ^
         table[3][(crc >> 24) & 0xff];
}

inline uint64_t Load(const unsigned char* data) {
  uint64_t word;
  std::memcpy(&word, data, 8);
  return word;
}

// Consumes whole groups of three `lane_bytes` lanes.
__attribute__((target("sse4.2"))) uint64_t ThreeLanes(uint64_t crc, const ShiftTable& table,
                                                      size_t lane_bytes, const unsigned char*& data,
                                                      size_t& bytes) {
  while (bytes >= 3 * lane_bytes) {
    uint64_t second = 0, third = 0;
    for (const unsigned char* end = data + lane_bytes; data < end; data += 8) {
      crc = __builtin_ia32_crc32di(crc, Load(data));
      second = __builtin_ia32_crc32di(second, Load(data + lane_bytes));
      third = __builtin_ia32_crc32di(third, Load(data + 2 * lane_bytes));
    }
    crc = Shift(table, crc) ^ second;
    crc = Shift(table, crc) ^ third;
    data += 2 * lane_bytes;
    bytes -= 3 * lane_bytes;
  }
  return crc;
}

__attribute__((target("sse4.2"))) uint32_t Hardware(uint32_t start, const unsigned char* data,
                                                    size_t bytes) {
  static const ShiftTable* const kLong = new ShiftTable(MakeShiftTable(kLongBytes));
  static const ShiftTable* const kShort = new ShiftTable(MakeShiftTable(kShortBytes));
  uint64_t crc = start;
  crc = ThreeLanes(crc, *kLong, kLongBytes, data, bytes);
  crc = ThreeLanes(crc, *kShort, kShortBytes, data, bytes);
  for (; bytes >= 8; data += 8, bytes -= 8) crc = __builtin_ia32_crc32di(crc, Load(data));
  uint32_t last = static_cast<uint32_t>(crc);
  for (; bytes > 0; ++data, --bytes) last = __builtin_ia32_crc32qi(last, *data);
  return last;
}

#endif  // __x86_64__

}  // namespace

uint32_t internal::Crc32cSoftware(uint32_t crc, const void* data, size_t bytes) {
  return ~Software(~crc, static_cast<const unsigned char*>(data), bytes);
}

uint32_t Crc32c(uint32_t crc, const void* data, size_t bytes) {
#if defined(__x86_64__)
  static const bool hardware = [] {
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2") != 0;
  }();
  if (hardware) return ~Hardware(~crc, static_cast<const unsigned char*>(data), bytes);
#endif
  return internal::Crc32cSoftware(crc, data, bytes);
}

}  // namespace ckpt
