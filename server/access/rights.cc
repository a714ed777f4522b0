#include "server/access/rights.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/quoted.h"

namespace ckpt {
namespace {

constexpr char kEveryRun[] = "**";

absl::Status Denied(const Rights& rights, Verb verb, absl::string_view where) {
  return absl::PermissionDeniedError(
      absl::StrCat(VerbName(verb), " rights over ", where, " are needed, and ", rights.name(),
                   " has none: call with a token that has them. ckptd's --token-file says which "
                   "tokens have, its ",
                   "--socket-rights what callers without one may"));
}

}  // namespace

absl::string_view VerbName(Verb verb) {
  switch (verb) {
    case Verb::kRead:
      return "read";
    case Verb::kWrite:
      return "write";
    case Verb::kAdmin:
      return "admin";
  }
  return "";
}

std::optional<Verb> ParseVerbs(absl::string_view text) {
  std::optional<Verb> greatest;
  for (const absl::string_view word : absl::StrSplit(text, ',')) {
    bool known = false;
    for (const Verb verb : {Verb::kRead, Verb::kWrite, Verb::kAdmin}) {
      if (word != VerbName(verb)) continue;
      known = true;
      greatest = std::max(greatest.value_or(verb), verb);
    }
    if (!known) return std::nullopt;
  }
  return greatest;
}

std::shared_ptr<const Rights> Rights::Everything(std::string name) {
  auto rights = std::make_shared<Rights>(std::move(name));
  rights->Add(*RunPattern::Parse(kEveryRun), Verb::kAdmin);
  return rights;
}

const Rights* Rights::OfTheDaemon() {
  static const auto* const rights = new std::shared_ptr<const Rights>(Everything("the daemon"));
  return rights->get();
}

bool Rights::May(Verb verb, absl::string_view run) const {
  return std::any_of(rules_.begin(), rules_.end(), [&](const Rule& rule) {
    return rule.verb >= verb && rule.runs.Matches(run);
  });
}

bool Rights::MaySomewhere(Verb verb) const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [&](const Rule& rule) { return rule.verb >= verb; });
}

bool Rights::MayEverywhere(Verb verb) const {
  return std::any_of(rules_.begin(), rules_.end(), [&](const Rule& rule) {
    return rule.verb >= verb && rule.runs.text() == kEveryRun;
  });
}

absl::Status Rights::Require(Verb verb, absl::string_view run) const {
  if (May(verb, run)) return absl::OkStatus();
  return Denied(*this, verb, absl::StrCat("run ", Quoted(run)));
}

absl::Status Rights::RequireSomewhere(Verb verb) const {
  return MaySomewhere(verb) ? absl::OkStatus() : Denied(*this, verb, "any run");
}

absl::Status Rights::RequireEverywhere(Verb verb) const {
  return MayEverywhere(verb) ? absl::OkStatus() : Denied(*this, verb, "all runs");
}

}  // namespace ckpt
