#include "tests/benchmark/result.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/json_text.h"

namespace ckpt::bench {

bool Line::met() const {
  if (!bar) return true;
  return bar->at_least ? value >= bar->value : value <= bar->value;
}

void Printer::Heading(const std::string& text) {
  absl::FPrintF(json_ ? stderr : stdout, "%s\n", text);
  std::fflush(json_ ? stderr : stdout);
}

void Printer::Note(const std::string& text) {
  absl::FPrintF(stderr, "  %s\n", text);
  std::fflush(stderr);
}

void Printer::Print(const Line& line) {
  if (!line.met()) ++unmet_;
  if (json_) {
    std::string out = "{\"name\":";
    AppendJsonString(line.name, out);
    absl::StrAppend(&out, ",\"value\":", absl::StrFormat("%.4f", line.value), ",\"unit\":");
    AppendJsonString(line.unit, out);
    out += ",\"baseline\":";
    AppendJsonString(line.baseline, out);
    if (line.bar) {
      absl::StrAppend(&out, ",\"bar\":\"",
                      line.bar->at_least ? ">= " : "<= ", absl::StrFormat("%.2f", line.bar->value),
                      "\",\"met\":", line.met() ? "true" : "false");
    } else {
      out += ",\"bar\":null,\"met\":null";
    }
    out += ",\"figures\":";
    AppendJsonString(line.figures, out);
    out += ",\"conditions\":";
    AppendJsonString(line.conditions, out);
    absl::PrintF("%s}\n", out);
  } else {
    if (first_) absl::PrintF("%-30s %9s  %-8s %s\n", "name", "value", "bar", "");
    first_ = false;
    const std::string bar =
        line.bar ? absl::StrFormat("%s %.2f", line.bar->at_least ? ">=" : "<=", line.bar->value)
                 : "-";
    const std::string value = line.unit == "ratio"
                                  ? absl::StrFormat("%.3f", line.value)
                                  : absl::StrFormat("%.3f %s", line.value, line.unit);
    absl::PrintF("%-30s %9s  %-8s %s\n", line.name, value, bar,
                 !line.bar    ? ""
                 : line.met() ? "met"
                              : "NOT MET");
    absl::PrintF("    over: %s\n    %s; %s\n", line.baseline, line.figures, line.conditions);
  }
  std::fflush(stdout);
}

std::string PrintSeconds(double seconds) {
  if (seconds >= 0.1) return absl::StrFormat("%.3f s", seconds);
  if (seconds >= 0.001) return absl::StrFormat("%.2f ms", seconds * 1e3);
  return absl::StrFormat("%.0f us", seconds * 1e6);
}

std::string PrintSpeed(double bytes, double seconds) {
  return absl::StrFormat("%.2f GB/s", bytes / seconds / 1e9);
}

}  // namespace ckpt::bench
