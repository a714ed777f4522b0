// Measuring: pairs of a thing and its baseline, in alternating order, and the median of their
// ratios. What disturbs one of a pair mostly disturbs the other.
#ifndef CKPT_TESTS_BENCHMARK_MEASURE_H_
#define CKPT_TESTS_BENCHMARK_MEASURE_H_

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace ckpt::bench {

double Now();  // seconds, monotonic

double Median(std::vector<double> numbers);

struct Pairs {
  std::vector<double> measured;  // seconds
  std::vector<double> baseline;  // seconds
  // Medians of the ratios of each pair.
  double MeasuredOverBaseline() const;
  double BaselineOverMeasured() const;  // of speeds, where both moved the same bytes
};

// `measured` and `baseline` return seconds. Even pairs begin with one, odd ones with the other.
// CANCELLED after an interrupt.
absl::StatusOr<Pairs> MeasurePairs(int pairs, absl::FunctionRef<absl::StatusOr<double>()> measured,
                                   absl::FunctionRef<absl::StatusOr<double>()> baseline);

// SIGINT and SIGTERM end the program at the next pair, with everything cleaned up.
void CatchInterrupts();
absl::Status CheckInterrupt();

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_MEASURE_H_
