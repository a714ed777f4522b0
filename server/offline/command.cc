#include "server/offline/command.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"

namespace ckpt::offline {
namespace {

constexpr char kHelp[] =
    R"(ckptutil: looks at a ckptd data folder while no daemon has it open.

  ckptutil verify DATA_FOLDER              read every byte, check every hash; name file, key and
                                           offset of all that is damaged
  ckptutil dump DATA_FOLDER                list all checkpoints
  ckptutil dump DATA_FOLDER RUN@STEP       show one: its parts, files, tensors and values
  ckptutil rebuild-index DATA_FOLDER       make the index anew from the manifests

Options:
  -o json        dump, verify: JSON instead of text
  -q, --quiet    verify: no progress on stderr
  -h, --help     this text
      --version  which ckptutil this is

verify and dump change nothing. rebuild-index replaces only DATA_FOLDER/index.

Exit codes:
   0  done; verify: nothing is damaged
   1  failed
   2  wrong usage
   3  no data folder there, or no such checkpoint
   5  refused: in use by a daemon, written by a newer version, or not a data folder
   6  something is damaged; each is named
   9  no disk space
  10  permission denied
)";

ExitCode ToExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
      return kExitRefused;
    case absl::StatusCode::kDataLoss:
      return kExitDamaged;
    case absl::StatusCode::kResourceExhausted:
      return kExitNoRoom;
    case absl::StatusCode::kPermissionDenied:
      return kExitDenied;
    default:
      return kExitFailed;
  }
}

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& given) {
  Arguments arguments;
  std::vector<std::string> plain;
  for (size_t i = 0; i < given.size(); ++i) {
    const std::string& word = given[i];
    if (word == "-o" || word == "--output") {
      if (++i == given.size() || (given[i] != "json" && given[i] != "table")) {
        return absl::InvalidArgumentError(absl::StrCat(word, " must be followed by json or table"));
      }
      arguments.json = given[i] == "json";
    } else if (word == "-q" || word == "--quiet") {
      arguments.quiet = true;
    } else if (word.size() > 1 && word[0] == '-') {
      return absl::InvalidArgumentError(absl::StrCat("unknown option ", word));
    } else {
      plain.push_back(word);
    }
  }
  if (plain.empty()) return absl::InvalidArgumentError("a verb is missing");
  arguments.verb = plain[0];
  if (arguments.verb != "verify" && arguments.verb != "dump" && arguments.verb != "rebuild-index") {
    return absl::InvalidArgumentError(absl::StrCat("unknown verb ", arguments.verb));
  }
  if (plain.size() < 2) return absl::InvalidArgumentError("DATA_FOLDER is missing");
  arguments.folder = plain[1];
  while (arguments.folder.size() > 1 && arguments.folder.back() == '/') arguments.folder.pop_back();
  const size_t words_max = arguments.verb == "dump" ? 3 : 2;
  if (plain.size() > words_max) {
    return absl::InvalidArgumentError(absl::StrCat("too many arguments: ", plain[words_max]));
  }
  if (plain.size() == 3) {
    arguments.selector = plain[2];
    CKPT_RETURN_IF_ERROR(ParseSelector(arguments.selector).status());
  }
  if (arguments.json && arguments.verb == "rebuild-index") {
    return absl::InvalidArgumentError("-o json: rebuild-index prints text only");
  }
  return arguments;
}

absl::StatusOr<ExitCode> Run(const Arguments& arguments, const Output& output) {
  if (arguments.verb == "verify") return Verify(arguments, output);
  if (arguments.verb == "dump") return Dump(arguments, output);
  return RebuildIndex(arguments, output);
}

}  // namespace

std::string Printed(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<std::unique_ptr<DataFolder>> OpenFolder(const std::string& path) {
  auto folder = DataFolder::OpenExisting(PosixFileSystem(), path);
  if (absl::IsFailedPrecondition(folder.status()) &&
      absl::StrContains(folder.status().message(), "in use")) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder.status().message(), "; stop the daemon first, or ask it with ckptctl"));
  }
  const bool has_no_format =
      absl::IsInvalidArgument(folder.status()) || absl::IsNotFound(folder.status());
  std::error_code error;
  if (has_no_format && std::filesystem::is_directory(path, error)) {
    return absl::Status(folder.status().code(),
                        absl::StrCat("not a ckptd data folder (no FORMAT file): name the folder "
                                     "that was given to ckptd --data-dir, not ",
                                     path));
  }
  return folder;
}

int RunCommand(const std::vector<std::string>& given, const Output& output) {
  for (const std::string& word : given) {
    if (word == "-h" || word == "--help" || (&word == &given[0] && word == "help")) {
      output.text << kHelp;
      return kExitOk;
    }
    if (word == "--version") {
      output.text << "ckptutil " CKPT_VERSION "\n";
      return kExitOk;
    }
  }
  absl::StatusOr<Arguments> arguments = Parse(given);
  if (!arguments.ok()) {
    output.errors << "ckptutil: " << std::string(arguments.status().message())
                  << "\nTry `ckptutil --help`.\n";
    return kExitUsage;
  }
  absl::StatusOr<ExitCode> done = Run(*arguments, output);
  if (done.ok()) return *done;
  output.errors << "ckptutil: " << std::string(done.status().message()) << "\n";
  return ToExitCode(done.status());
}

}  // namespace ckpt::offline
