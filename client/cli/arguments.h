// The command line: what a verb takes, parsing it, and the help text made from the same
// description. --flag VALUE, --flag=VALUE, -f VALUE, -fVALUE; `--` ends the flags; flags and
// positionals may be mixed.
#ifndef CKPT_CLIENT_CLI_ARGUMENTS_H_
#define CKPT_CLIENT_CLI_ARGUMENTS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace ckpt::cli {

struct FlagSpec {
  std::string name;   // without the dashes
  std::string value;  // what stands for its value in the help; empty: the flag takes none
  std::string help;   // one line
  char letter = 0;    // -o
  bool repeated = false;
  bool is_path = false;  // any bytes, as a file's name may have
};

struct PositionalSpec {
  std::string name;  // RUN@STEP
  std::string help;
  size_t count_min = 1;
  size_t count_max = 1;
  bool is_path = false;
};

struct CommandSpec {
  std::string name;     // "checkpoint ls"
  std::string summary;  // one line
  std::vector<PositionalSpec> positionals;
  std::vector<FlagSpec> flags;
  std::string details;  // further paragraphs of --help
};

class Arguments {
 public:
  bool Has(absl::string_view flag) const;
  // The last value given, or `otherwise`.
  std::string Get(absl::string_view flag, absl::string_view otherwise = "") const;
  std::vector<std::string> All(absl::string_view flag) const;
  // INVALID_ARGUMENT names the flag and gives an example: 30s, 5m, 1h30m.
  absl::StatusOr<absl::Duration> Duration(absl::string_view flag, absl::Duration otherwise) const;
  absl::StatusOr<uint64_t> Number(absl::string_view flag, uint64_t otherwise) const;
  const std::vector<std::string>& positionals() const { return positionals_; }

 private:
  friend absl::StatusOr<Arguments> ParseArguments(const CommandSpec&, absl::Span<const FlagSpec>,
                                                  absl::Span<const std::string>);
  std::map<std::string, std::vector<std::string>> flags_;
  std::vector<std::string> positionals_;
};

// `common` are the flags that every verb takes. INVALID_ARGUMENT says what is wrong and, for an
// unknown flag, which one was probably meant. What is no path must be UTF-8: it goes into messages
// that carry nothing else. --help wins over every other error.
absl::StatusOr<Arguments> ParseArguments(const CommandSpec& command,
                                         absl::Span<const FlagSpec> common,
                                         absl::Span<const std::string> words);

// ckptctl NAME POSITIONALS [flags], the summary, details and every flag.
std::string HelpText(const CommandSpec& command, absl::Span<const FlagSpec> common);
// "  --name VALUE   help" for each flag, aligned.
std::string FlagHelp(absl::Span<const FlagSpec> flags);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_ARGUMENTS_H_
