// One line of the table, and how lines are printed: for people, or as JSON.
#ifndef CKPT_TESTS_BENCHMARK_RESULT_H_
#define CKPT_TESTS_BENCHMARK_RESULT_H_

#include <cstdio>
#include <optional>
#include <string>

namespace ckpt::bench {

struct Bar {
  double value = 0;
  bool at_least = false;  // otherwise at most
};

struct Line {
  std::string name;
  double value = 0;
  std::string unit;        // "ratio", "GB/s", "ms"
  std::string baseline;    // what it is divided by
  std::optional<Bar> bar;  // nullopt: printed only
  std::string conditions;  // page state, threads, chosen settings
  std::string figures;     // the medians behind the ratio: "0.21 s / 0.22 s"
  bool met() const;        // true where there is no bar
};

class Printer {
 public:
  explicit Printer(bool json) : json_(json) {}
  void Heading(const std::string& text);  // to stderr with --json
  void Print(const Line& line);
  void Note(const std::string& text);  // progress, to stderr
  int unmet() const { return unmet_; }

 private:
  const bool json_;
  bool first_ = true;
  int unmet_ = 0;
};

// "0.213 s", "1.20 ms", "150 us".
std::string PrintSeconds(double seconds);
// "9.81 GB/s", 10^9 bytes.
std::string PrintSpeed(double bytes, double seconds);

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_RESULT_H_
