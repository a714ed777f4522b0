#include "common/retention_policy.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/byte_size.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr int64_t kDaySeconds = 24 * 60 * 60;
constexpr int64_t kAgeSecondsMax = 100 * 366 * kDaySeconds;

absl::Status Wrong(absl::string_view expected, absl::string_view got) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", expected, ", got '", absl::CHexEscape(got.substr(0, 200)), "'"));
}

absl::StatusOr<uint64_t> ParseCount(absl::string_view text, uint64_t max) {
  uint64_t count = 0;
  if (!absl::SimpleAtoi(text, &count) || count < 1 || count > max) {
    return Wrong(absl::StrCat("a number from 1 to ", max), text);
  }
  return count;
}

absl::StatusOr<v1::KeepBest> ParseKeepBest(absl::string_view text) {
  const std::vector<std::string> words = absl::StrSplit(text, ':');
  constexpr absl::string_view kExpected =
      "METRIC:min:N or METRIC:max:N, such as eval/loss:min:3 for the three with the smallest";
  if (words.size() != 3 || (words[1] != "min" && words[1] != "max")) return Wrong(kExpected, text);
  if (!ValidateMetricName(words[0]).ok()) return Wrong(kExpected, text);
  v1::KeepBest best;
  best.set_metric(words[0]);
  best.set_direction(words[1] == "min" ? v1::KeepBest::DIRECTION_MIN
                                       : v1::KeepBest::DIRECTION_MAX);
  CKPT_ASSIGN_OR_RETURN(const uint64_t count, ParseCount(words[2], UINT32_MAX));
  best.set_count(static_cast<uint32_t>(count));
  return best;
}

std::string PrintKeepBest(const v1::KeepBest& best) {
  return absl::StrCat(best.metric(), ":",
                      best.direction() == v1::KeepBest::DIRECTION_MIN ? "min" : "max", ":",
                      best.count());
}

// Days, which absl does not know, or whatever it knows; whole seconds.
absl::StatusOr<int64_t> ParseAgeSeconds(absl::string_view text) {
  absl::Duration age;
  uint64_t days = 0;
  const bool in_days = !text.empty() && text.back() == 'd' &&
                       absl::SimpleAtoi(text.substr(0, text.size() - 1), &days) &&
                       days <= static_cast<uint64_t>(kAgeSecondsMax / kDaySeconds);
  if (in_days) age = absl::Hours(24) * static_cast<int64_t>(days);
  if ((!in_days && !absl::ParseDuration(text, &age)) || age < absl::Seconds(1) ||
      age > absl::Seconds(kAgeSecondsMax)) {
    return Wrong("an age such as 30d, 12h or 1h30m, from 1s to 36600d", text);
  }
  return absl::ToInt64Seconds(age);
}

std::string PrintAgeSeconds(int64_t seconds) {
  if (seconds % kDaySeconds == 0) return absl::StrCat(seconds / kDaySeconds, "d");
  return absl::FormatDuration(absl::Seconds(seconds));
}

}  // namespace

const std::vector<RetentionRule>& RetentionRules() {
  static const auto* rules = new std::vector<RetentionRule>{
      {"keep-last", "N", "keep the newest N checkpoints"},
      {"keep-every", "N", "keep steps that are multiples of N"},
      {"keep-best", "METRIC:min|max:N",
       "keep the N best by a metric (ckptctl checkpoint annotate)"},
      {"max-bytes", "SIZE", "delete the oldest while they are more than this, such as 500GiB"},
      {"max-age", "AGE", "delete what was committed longer ago, such as 30d"}};
  return *rules;
}

absl::Status SetRetentionRule(absl::string_view rule, absl::string_view value,
                              v1::RetentionPolicy& policy) {
  if (rule == "keep-last") {
    CKPT_ASSIGN_OR_RETURN(const uint64_t count, ParseCount(value, kStepMax));
    policy.set_keep_last(count);
  } else if (rule == "keep-every") {
    CKPT_ASSIGN_OR_RETURN(const uint64_t count, ParseCount(value, kStepMax));
    policy.set_keep_every(count);
  } else if (rule == "keep-best") {
    CKPT_ASSIGN_OR_RETURN(*policy.mutable_keep_best(), ParseKeepBest(value));
  } else if (rule == "max-bytes") {
    CKPT_ASSIGN_OR_RETURN(const uint64_t bytes, ParseByteSize(value));
    if (bytes == 0) return Wrong("a size above 0", value);
    policy.set_max_bytes(bytes);
  } else if (rule == "max-age") {
    CKPT_ASSIGN_OR_RETURN(const int64_t seconds, ParseAgeSeconds(value));
    policy.mutable_max_age()->set_seconds(seconds);
  } else {
    std::vector<std::string> names;
    for (const RetentionRule& known : RetentionRules()) names.emplace_back(known.name);
    return absl::NotFoundError(absl::StrCat("no retention rule '",
                                            absl::CHexEscape(rule.substr(0, 100)),
                                            "'; there are ", absl::StrJoin(names, ", ")));
  }
  return absl::OkStatus();
}

absl::Status ValidateMetricName(absl::string_view name) {
  bool good = !name.empty() && name.size() <= kMetricNameBytesMax && name[0] != '-';
  for (const char c : name.substr(0, kMetricNameBytesMax)) {
    good = good && (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-' || c == '/');
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("bad metric name '", absl::CHexEscape(name.substr(0, 100)), "': 1 to ",
                   kMetricNameBytesMax, " of letters, digits, '.', '_', '/' and, not first, '-'"));
}

absl::Status ValidateRetentionPolicy(const v1::RetentionPolicy& policy) {
  // Left out, a rule that keeps would delete.
  v1::RetentionPolicy known = policy;
  known.DiscardUnknownFields();
  if (known.ByteSizeLong() != policy.ByteSizeLong()) {
    return absl::InvalidArgumentError(
        "the policy has a rule that is not known here: is the caller newer than this daemon?");
  }
  if (policy.has_keep_best()) {
    const v1::KeepBest& best = policy.keep_best();
    CKPT_RETURN_IF_ERROR(ValidateMetricName(best.metric()));
    if (best.count() == 0) return absl::InvalidArgumentError("keep_best keeps at least 1");
    if (best.direction() != v1::KeepBest::DIRECTION_MIN &&
        best.direction() != v1::KeepBest::DIRECTION_MAX) {
      return absl::InvalidArgumentError("keep_best needs a direction: min or max");
    }
  }
  if (policy.has_max_age() &&
      (policy.max_age().seconds() < 1 || policy.max_age().seconds() > kAgeSecondsMax ||
       policy.max_age().nanos() != 0)) {
    return absl::InvalidArgumentError("max_age must be whole seconds, from 1 s to 36600 days");
  }
  return absl::OkStatus();
}

std::vector<std::pair<std::string, std::string>> PrintRetentionRules(
    const v1::RetentionPolicy& policy) {
  std::vector<std::pair<std::string, std::string>> rules;
  if (policy.keep_last() > 0) rules.emplace_back("keep-last", absl::StrCat(policy.keep_last()));
  if (policy.keep_every() > 0) rules.emplace_back("keep-every", absl::StrCat(policy.keep_every()));
  if (policy.has_keep_best()) rules.emplace_back("keep-best", PrintKeepBest(policy.keep_best()));
  if (policy.max_bytes() > 0) rules.emplace_back("max-bytes", absl::StrCat(policy.max_bytes()));
  if (policy.has_max_age()) {
    rules.emplace_back("max-age", PrintAgeSeconds(policy.max_age().seconds()));
  }
  return rules;
}

std::string PrintRetentionPolicy(const v1::RetentionPolicy& policy) {
  const auto rules = PrintRetentionRules(policy);
  if (rules.empty()) return "keep everything";
  return absl::StrJoin(rules, ", ", [](std::string* out, const auto& rule) {
    absl::StrAppend(out, rule.first, " ", rule.second);
  });
}

}  // namespace ckpt
