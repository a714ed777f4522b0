#include "tests/benchmark/measure.h"

#include <signal.h>

#include <algorithm>
#include <chrono>

#include "common/status_macros.h"

namespace ckpt::bench {
namespace {

volatile sig_atomic_t interrupted = 0;

std::vector<double> Ratios(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return ratios;
}

}  // namespace

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> numbers) {
  if (numbers.empty()) return 0;
  std::sort(numbers.begin(), numbers.end());
  const size_t half = numbers.size() / 2;
  return numbers.size() % 2 == 1 ? numbers[half] : (numbers[half - 1] + numbers[half]) / 2;
}

double Pairs::MeasuredOverBaseline() const { return Median(Ratios(measured, baseline)); }
double Pairs::BaselineOverMeasured() const { return Median(Ratios(baseline, measured)); }

absl::StatusOr<Pairs> MeasurePairs(int pairs, absl::FunctionRef<absl::StatusOr<double>()> measured,
                                   absl::FunctionRef<absl::StatusOr<double>()> baseline) {
  Pairs result;
  for (int i = 0; i < pairs; ++i) {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    double first = 0, second = 0;
    if (i % 2 == 0) {
      CKPT_ASSIGN_OR_RETURN(first, measured());
      CKPT_ASSIGN_OR_RETURN(second, baseline());
    } else {
      CKPT_ASSIGN_OR_RETURN(second, baseline());
      CKPT_ASSIGN_OR_RETURN(first, measured());
    }
    result.measured.push_back(first);
    result.baseline.push_back(second);
  }
  return result;
}

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

absl::Status CheckInterrupt() {
  return interrupted != 0 ? absl::CancelledError("interrupted") : absl::OkStatus();
}

}  // namespace ckpt::bench
