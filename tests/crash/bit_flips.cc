#include "tests/crash/bit_flips.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <random>

#include "gtest/gtest.h"
#include "tests/fixtures/setting.h"

namespace ckpt {
namespace {

constexpr uint64_t kSeed = 20261128;

void FlipBit(int descriptor, uint64_t bit) {
  char byte = 0;
  const auto offset = static_cast<off_t>(bit / 8);
  if (pread(descriptor, &byte, 1, offset) != 1) std::abort();
  byte = static_cast<char>(byte ^ (1 << (bit % 8)));
  if (pwrite(descriptor, &byte, 1, offset) != 1) std::abort();
}

}  // namespace

Region WholeFile(const std::string& name, const std::string& path) {
  return {name, path, 0, std::filesystem::file_size(path)};
}

uint64_t FlipsPerRegion(uint64_t usual) { return TestSetting("CKPT_FLIPPED_BITS", usual); }

void BitFlips::Flip(const Region& region, uint64_t flips, const Check& check) {
  const int descriptor = open(region.path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(descriptor, 0) << region.path;
  const uint64_t bits = region.bytes * 8;
  const bool all = bits <= flips;
  std::mt19937_64 random(kSeed);
  Tally& tally = tallies_[region.name];
  for (uint64_t i = 0; i < (all ? bits : flips); ++i) {
    const uint64_t bit = region.begin * 8 + (all ? i : random() % bits);
    FlipBit(descriptor, bit);
    const Fate fate = check(region, bit / 8);
    FlipBit(descriptor, bit);
    ++tally.flips;
    tally.found += fate == Fate::kFound ? 1 : 0;
    tally.harmless += fate == Fate::kHarmless ? 1 : 0;
    EXPECT_NE(fate, Fate::kMissed) << region.name << ": bit " << bit % 8 << " of byte " << bit / 8
                                   << " of " << region.path << ", seed " << kSeed;
    if (testing::Test::HasFailure()) break;
  }
  close(descriptor);
}

uint64_t BitFlips::found(const std::string& name) const { return tallies_.at(name).found; }
uint64_t BitFlips::harmless(const std::string& name) const { return tallies_.at(name).harmless; }

uint64_t BitFlips::flips() const {
  uint64_t flips = 0;
  for (const auto& [name, tally] : tallies_) flips += tally.flips;
  return flips;
}

BitFlips::~BitFlips() {
  for (const auto& [name, tally] : tallies_) {
    std::printf("flipped bits: %-22s %8llu flips %8llu found %8llu harmless\n", name.c_str(),
                static_cast<unsigned long long>(tally.flips),
                static_cast<unsigned long long>(tally.found),
                static_cast<unsigned long long>(tally.harmless));
  }
}

}  // namespace ckpt
