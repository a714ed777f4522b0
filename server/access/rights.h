// What a caller may do, by run. Immutable once made; may be used from several threads.
#ifndef CKPT_SERVER_ACCESS_RIGHTS_H_
#define CKPT_SERVER_ACCESS_RIGHTS_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/run_pattern.h"

namespace ckpt {

// Each includes those before it.
enum class Verb {
  kRead,   // list, look, diff, watch, wait, verify, restore
  kWrite,  // save, delete, tag, annotate
  kAdmin,  // a run's retention; over all runs: the daemon itself
};

// "read,write" -> the greatest of them. nullopt: not a comma list of read, write and admin.
std::optional<Verb> ParseVerbs(absl::string_view text);
absl::string_view VerbName(Verb verb);

class Rights {
 public:
  // No rights yet. `name` is whose they are, for error texts and the log.
  explicit Rights(std::string name) : name_(std::move(name)) {}
  static std::shared_ptr<const Rights> Everything(std::string name);
  static const Rights* OfTheDaemon();  // everything

  void Add(RunPattern runs, Verb verb) { rules_.push_back({std::move(runs), verb}); }

  const std::string& name() const { return name_; }
  bool May(Verb verb, absl::string_view run) const;
  bool MaySomewhere(Verb verb) const;
  // Over all runs, whatever their names: a rule for ** says so.
  bool MayEverywhere(Verb verb) const;

  // PERMISSION_DENIED says what is missing, for which run, and to whom.
  absl::Status Require(Verb verb, absl::string_view run) const;
  absl::Status RequireSomewhere(Verb verb) const;
  absl::Status RequireEverywhere(Verb verb) const;

 private:
  struct Rule {
    RunPattern runs;
    Verb verb;  // and those that it includes
  };
  const std::string name_;
  std::vector<Rule> rules_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_ACCESS_RIGHTS_H_
