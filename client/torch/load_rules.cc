#include "client/torch/load_rules.h"

#include <re2/re2.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

absl::StatusOr<LeafFilter> FilterOf(const LoadPolicy& policy) {
  v1::Selection selection;
  v1::LeafMatch& match = *selection.add_include_matching();
  match = policy.match;
  if (!policy.glob.empty()) {
    if (!match.glob().empty()) {
      return absl::InvalidArgumentError("two globs: set `glob` or `match.glob`");
    }
    match.set_glob(policy.glob);
  }
  return LeafFilter::FromSelection(selection);
}

absl::Status CheckPolicy(const LoadPolicy& policy) {
  if (!policy.missing && !policy.unexpected && !policy.mismatched && !policy.unreadable) {
    return absl::InvalidArgumentError(
        "it says nothing of missing, unexpected, mismatched or unreadable");
  }
  if (policy.missing == LoadPolicy::Action::kCast ||
      policy.unexpected == LoadPolicy::Action::kCast ||
      policy.unreadable == LoadPolicy::Action::kCast) {
    return absl::InvalidArgumentError("kCast is for mismatched leaves");
  }
  return absl::OkStatus();
}

absl::Status InPolicy(size_t i, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("LoadOptions::policies[", i, "]: ", status.message()));
}

}  // namespace

absl::StatusOr<LoadRules> LoadRules::Compile(const LoadOptions& options) {
  LoadRules rules;
  rules.strict_ = options.strict;
  rules.mismatch_ = options.mismatch;
  for (size_t i = 0; i < options.policies.size(); ++i) {
    const LoadPolicy& policy = options.policies[i];
    CKPT_RETURN_IF_ERROR(InPolicy(i, CheckPolicy(policy)));
    auto filter = FilterOf(policy);
    CKPT_RETURN_IF_ERROR(InPolicy(i, filter.status()));
    rules.policies_.push_back({*std::move(filter), policy.missing, policy.unexpected,
                               policy.mismatched, policy.unreadable});
  }
  for (const Rename& rule : options.renames) {
    Renaming& renaming = rules.renames_.emplace_back();
    renaming.rule = rule;
    if (rule.kind != Rename::Kind::kRegex) continue;
    re2::RE2::Options quiet;
    quiet.set_log_errors(false);
    auto regex = std::make_shared<const re2::RE2>(rule.from, quiet);
    std::string error = regex->error();
    if (!regex->ok() || !regex->CheckRewriteString(rule.to, &error)) {
      return absl::InvalidArgumentError(absl::StrCat("bad rename from ", Quoted(rule.from), " to ",
                                                     Quoted(rule.to), ": ", error));
    }
    renaming.regex = std::move(regex);
  }
  return rules;
}

LoadRules::Action LoadRules::For(Case what, const LeafFacts& leaf) const {
  for (const Policy& policy : policies_) {
    const std::optional<Action>& action = what == Case::kMissing      ? policy.missing
                                          : what == Case::kUnexpected ? policy.unexpected
                                          : what == Case::kMismatched ? policy.mismatched
                                                                      : policy.unreadable;
    if (action && policy.filter.Matches(leaf)) return *action;
  }
  // Lost bytes are never what a caller expects, strict or not.
  if (strict_ || what == Case::kUnreadable) return Action::kError;
  if (what != Case::kMismatched) return Action::kSkip;
  switch (mismatch_) {
    case LoadOptions::Mismatch::kSkip:
      return Action::kSkip;
    case LoadOptions::Mismatch::kCast:
      return Action::kCast;
    default:
      return Action::kError;
  }
}

std::vector<std::string> LoadRules::RenameChildren(CheckpointNode& node, bool is_module) const {
  std::vector<const Renaming*> here;
  for (const Renaming& renaming : renames_) {
    const auto& dictionary = renaming.rule.dictionary;
    if (dictionary ? *dictionary == node.printed : is_module) here.push_back(&renaming);
  }
  std::vector<std::string> collisions;
  if (here.empty()) return collisions;
  node.child_by_key.clear();
  for (size_t i = 0; i < node.children.size(); ++i) {
    StateKey key = node.children[i]->key;
    if (key.name() != nullptr) {
      std::string name = *key.name();
      for (const Renaming* renaming : here) {
        if (renaming->regex != nullptr) {
          re2::RE2::GlobalReplace(&name, *renaming->regex, renaming->rule.to);
        } else if (absl::StartsWith(name, renaming->rule.from)) {
          name.replace(0, renaming->rule.from.size(), renaming->rule.to);
        }
      }
      key = StateKey(std::move(name));
    }
    const auto [found, is_new] = node.child_by_key.emplace(key, i);
    if (is_new) continue;
    collisions.push_back(absl::StrCat(node.children[found->second]->printed, " and ",
                                      node.children[i]->printed, " both become ", key.ToString()));
  }
  return collisions;
}

namespace {

// What stands before each of `names` in `longer`, and makes all of them; empty where nothing does.
std::string CommonPrefix(const std::vector<std::string>& names,
                         const std::vector<std::string>& longer) {
  if (names.empty()) return "";
  const absl::flat_hash_set<std::string> all(longer.begin(), longer.end());
  for (const std::string& candidate : longer) {
    if (!absl::EndsWith(candidate, names[0]) || candidate.size() == names[0].size()) continue;
    const std::string prefix = candidate.substr(0, candidate.size() - names[0].size());
    const bool fits = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
      return all.contains(prefix + name);
    });
    if (fits) return prefix;
  }
  return "";
}

}  // namespace

std::string PrefixThatFits(const std::vector<std::string>& missing,
                           const std::vector<std::string>& unexpected) {
  if (const std::string prefix = CommonPrefix(missing, unexpected); !prefix.empty()) {
    return absl::StrCat("Rename::StripPrefix(\"", absl::Utf8SafeCEscape(prefix), "\")");
  }
  if (const std::string prefix = CommonPrefix(unexpected, missing); !prefix.empty()) {
    return absl::StrCat("Rename::AddPrefix(\"", absl::Utf8SafeCEscape(prefix), "\")");
  }
  return "";
}

}  // namespace ckpt
