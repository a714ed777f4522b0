// Bits of files, flipped one at a time and flipped back: which file and which bytes of it, how many
// of their bits, and what became of each.
#ifndef CKPT_TESTS_CRASH_BIT_FLIPS_H_
#define CKPT_TESTS_CRASH_BIT_FLIPS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace ckpt {

struct Region {
  std::string name;  // of the kind of bytes: "data", "part manifest"
  std::string path;
  uint64_t begin = 0;
  uint64_t bytes = 0;
};
// All of a file.
Region WholeFile(const std::string& name, const std::string& path);

// What a flipped bit did.
enum class Fate {
  kFound,     // reported: an error, a line of damage, a refused start
  kHarmless,  // every answer is as before
  kMissed,    // neither: an answer is wrong and nobody says so
};

// How many bits of each region are flipped: CKPT_FLIPPED_BITS, or `usual`. A region that has fewer
// is flipped whole, others at random places of a fixed seed.
uint64_t FlipsPerRegion(uint64_t usual);

// Flips a bit, asks `check`, flips it back. `check` gets the byte's offset in the file.
class BitFlips {
 public:
  ~BitFlips();  // prints a line for each kind of region
  using Check = std::function<Fate(const Region& region, uint64_t offset)>;
  // A failure of the test where a bit is missed.
  void Flip(const Region& region, uint64_t flips, const Check& check);
  uint64_t found(const std::string& name) const;
  uint64_t harmless(const std::string& name) const;
  uint64_t flips() const;

 private:
  struct Tally {
    uint64_t flips = 0;
    uint64_t found = 0;
    uint64_t harmless = 0;
  };
  std::map<std::string, Tally> tallies_;
};

}  // namespace ckpt

#endif  // CKPT_TESTS_CRASH_BIT_FLIPS_H_
