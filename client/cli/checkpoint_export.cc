// ckptctl checkpoint export RUN@STEP FILE-or-DIR
//
// 1. PlanRestore keeps every file of the checkpoint until the end.
// 2. Each output file is written under a temporary name, tensor by tensor, every block verified,
//    and synced. An error or a kill leaves nothing under a final name; an error or a signal that
//    can be caught leaves nothing at all.
// 3. The files get their names; in a folder the index comes last: where it is, everything is.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/dry_run.h"
#include "client/cli/export_files.h"
#include "client/cli/output_file.h"
#include "client/cli/selection_flags.h"
#include "client/cli/slice_boxes.h"
#include "client/cli/terminal.h"
#include "client/cli/torch_file/torch_writer.h"
#include "client/cli/unfinished_path.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kExportIndexName[] = "model.safetensors.index.json";
constexpr uint64_t kShardBytesDefault = 5'000'000'000;  // as the common tools cut

struct ExportTarget {
  std::string path;
  bool folder = false;
  bool made_folder = false;
  bool force = false;
  bool torch = false;  // what torch.load reads, instead of safetensors
  uint64_t shard_bytes_max = UINT64_MAX;
};

std::string ShardName(size_t number, size_t count) {
  return absl::StrFormat("model-%05d-of-%05d.safetensors", number, count);
}

bool IsShardName(const std::string& name) {
  unsigned number = 0;
  unsigned count = 0;
  return std::sscanf(name.c_str(), "model-%5u-of-%5u.safetensors", &number, &count) == 2 &&
         name == ShardName(number, count);
}

// By --format, or by what the file shall be called.
absl::StatusOr<bool> IsForTorch(const Arguments& arguments, const std::string& path) {
  const std::string format = arguments.Get("format");
  if (format == "torch") return true;
  if (format == "safetensors") return false;
  if (!format.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--format is safetensors or torch; got ", Quoted(format)));
  }
  return absl::EndsWith(path, ".pt") || absl::EndsWith(path, ".pth") ||
         absl::EndsWith(path, ".bin");
}

absl::StatusOr<ExportTarget> ChooseTarget(const Arguments& arguments) {
  if (arguments.positionals().size() < 2) {
    return absl::InvalidArgumentError(
        "FILE-or-DIR is missing: usage is ckptctl checkpoint export RUN@STEP FILE-or-DIR");
  }
  ExportTarget target{.path = arguments.positionals()[1], .force = arguments.Has("force")};
  if (target.path.empty()) return absl::InvalidArgumentError("FILE-or-DIR is empty");
  if (target.path == "-") {
    return absl::InvalidArgumentError(
        "an export cannot be written to standard output: name a file, or ./- for one of that name");
  }
  std::error_code error;
  const bool is_folder = fs::is_directory(target.path, error);
  target.folder = is_folder || arguments.Has("shard-size") || absl::EndsWith(target.path, "/");
  CKPT_ASSIGN_OR_RETURN(target.torch, IsForTorch(arguments, target.path));
  if (target.torch && target.folder) {
    return absl::InvalidArgumentError(
        "the torch format is one file: name it, without --shard-size");
  }
  if (!target.folder) return target;
  while (target.path.size() > 1 && target.path.back() == '/') target.path.pop_back();
  target.shard_bytes_max = kShardBytesDefault;
  if (arguments.Has("shard-size")) {
    CKPT_ASSIGN_OR_RETURN(target.shard_bytes_max, ParseByteSize(arguments.Get("shard-size")));
    if (target.shard_bytes_max == 0)
      return absl::InvalidArgumentError("--shard-size must not be 0");
  }
  if (is_folder && !target.force && !fs::is_empty(target.path, error)) {
    return absl::AlreadyExistsError(
        absl::StrCat(target.path, " is not empty: give --force to write into it"));
  }
  if (!is_folder) {
    if (mkdir(target.path.c_str(), 0777) != 0) {
      return errno == EEXIST
                 ? absl::AlreadyExistsError(absl::StrCat(target.path, " is a file, not a folder"))
                 : absl::ErrnoToStatus(errno, absl::StrCat("making the folder ", target.path));
    }
    target.made_folder = true;
  }
  return target;
}

absl::Status WriteIndex(const ExportTarget& target,
                        const std::vector<std::vector<ExportTensor>>& files, uint64_t bytes_total) {
  nlohmann::json index;  // sorted by key, as the common tools write it
  index["metadata"]["total_size"] = bytes_total;
  index["weight_map"] = nlohmann::json::object();
  for (size_t i = 0; i < files.size(); ++i) {
    for (const ExportTensor& tensor : files[i]) {
      index["weight_map"][tensor.name] = ShardName(i + 1, files.size());
    }
  }
  CKPT_ASSIGN_OR_RETURN(
      OutputFile file,
      OutputFile::Create(absl::StrCat(target.path, "/", kExportIndexName), target.force));
  CKPT_RETURN_IF_ERROR(
      file.WriteAt(0, index.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"));
  CKPT_RETURN_IF_ERROR(file.SyncAndClose());
  return file.Publish();
}

// Shards of an earlier export that the new index doesn't name.
void RemoveStaleShards(const ExportTarget& target, size_t count) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(target.path, error)) {
    const std::string name = entry.path().filename().string();
    if (!IsShardName(name) ||
        absl::EndsWith(name, absl::StrFormat("-of-%05d.safetensors", count))) {
      continue;
    }
    std::error_code ignored;
    fs::remove(entry.path(), ignored);
  }
}

// The file says itself which box of a tensor it holds.
std::map<std::string, std::string> WithSlices(std::map<std::string, std::string> metadata,
                                              const std::vector<ExportTensor>& tensors) {
  for (const ExportTensor& tensor : tensors) {
    if (tensor.offset.empty()) continue;
    metadata[absl::StrCat("ckptd.slice.", tensor.name)] =
        Box{tensor.offset, tensor.shape}.ToString();
  }
  return metadata;
}

absl::StatusOr<std::vector<std::string>> WriteExport(
    const ExportTarget& target, RestorePlan& plan,
    const std::vector<std::vector<ExportTensor>>& files, uint64_t bytes_total) {
  CKPT_ASSIGN_OR_RETURN(auto metadata, ExportMetadata(plan));
  if (target.folder) {
    CKPT_RETURN_IF_ERROR(
        CheckReplaceable(absl::StrCat(target.path, "/", kExportIndexName), target.force));
  }
  ProgressBar bar(NameOf(plan.checkpoint().id()));
  uint64_t bytes_done = 0;
  const auto wrote = [&](uint64_t bytes) {
    bytes_done += bytes;
    bar.Show(bytes_done, bytes_total);
  };
  std::vector<OutputFile> outputs;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string path = target.folder
                                 ? absl::StrCat(target.path, "/", ShardName(i + 1, files.size()))
                                 : target.path;
    CKPT_ASSIGN_OR_RETURN(OutputFile output, OutputFile::Create(path, target.force));
    CKPT_RETURN_IF_ERROR(
        WriteSafetensors(plan, files[i], WithSlices(metadata, files[i]), output, wrote));
    outputs.push_back(std::move(output));
    metadata.erase("values");  // in the first file only
  }
  if (target.folder && target.force) {
    std::error_code ignored;  // from here to the end the folder says that it isn't complete
    fs::remove(absl::StrCat(target.path, "/", kExportIndexName), ignored);
  }
  std::vector<std::string> paths;
  for (OutputFile& output : outputs) {
    CKPT_RETURN_IF_ERROR(output.Publish());
    paths.push_back(output.path());
  }
  if (target.folder) {
    CKPT_RETURN_IF_ERROR(WriteIndex(target, files, bytes_total));
    paths.push_back(absl::StrCat(target.path, "/", kExportIndexName));
    RemoveStaleShards(target, files.size());
  }
  return paths;
}

absl::StatusOr<std::vector<std::string>> WriteTorchExport(const ExportTarget& target,
                                                          RestorePlan& plan, SliceBoxes boxes,
                                                          uint64_t& bytes_total) {
  CKPT_ASSIGN_OR_RETURN(const TorchState state, MakeTorchState(plan, std::move(boxes)));
  bytes_total = state.data_bytes;
  CKPT_RETURN_IF_ERROR(CheckRoom(FolderOf(target.path), bytes_total));
  CKPT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(target.path, target.force));
  ProgressBar bar(NameOf(plan.checkpoint().id()));
  uint64_t bytes_done = 0;
  CKPT_RETURN_IF_ERROR(WriteTorchFile(plan, state, file, [&](uint64_t bytes) {
    bytes_done += bytes;
    bar.Show(bytes_done, bytes_total);
  }));
  CKPT_RETURN_IF_ERROR(file.Publish());
  return std::vector<std::string>{target.path};
}

absl::Status CheckSelection(const Arguments& arguments, const RestorePlan& plan) {
  const auto selected = [](const v1::PlannedLeaf& leaf) { return leaf.selected(); };
  if (std::any_of(plan.leaves().begin(), plan.leaves().end(), selected)) return absl::OkStatus();
  return NothingSelected(arguments, plan.checkpoint().id());
}

absl::StatusOr<std::vector<std::string>> PlanAndWrite(VerbContext& context,
                                                      const v1::Selector& selector,
                                                      const ExportTarget& target,
                                                      v1::CheckpointInfo& info,
                                                      uint64_t& bytes_total) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, context.connection.ConnectClient());
  RestoreOptions options;
  options.settle_timeout = std::min(context.connection.timeout(), absl::Minutes(10));
  CKPT_ASSIGN_OR_RETURN(options.selection, SlicedSelectionOf(context, selector));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                        client->PlanRestore(selector, options));
  info = plan->checkpoint();
  CKPT_RETURN_IF_ERROR(CheckSelection(context.arguments, *plan));
  SliceBoxes boxes(options.selection);
  if (target.torch) return WriteTorchExport(target, *plan, std::move(boxes), bytes_total);
  std::vector<ExportTensor> tensors = ExportTensors(*plan, boxes);
  bytes_total = 0;
  for (const ExportTensor& tensor : tensors) bytes_total += tensor.bytes;
  CKPT_RETURN_IF_ERROR(CheckRoom(target.folder ? target.path : FolderOf(target.path), bytes_total));
  return WriteExport(target, *plan, CutIntoFiles(std::move(tensors), target.shard_bytes_max),
                     bytes_total);
}

absl::StatusOr<ExitCode> ExportCheckpoint(VerbContext& context) {
  CKPT_ASSIGN_OR_RETURN(const v1::Selector selector,
                        ParseSelector(context.arguments.positionals()[0]));
  if (context.arguments.Has("dry-run")) {
    CKPT_ASSIGN_OR_RETURN(const v1::Selection selection, SlicedSelectionOf(context, selector));
    CKPT_RETURN_IF_ERROR(DryRun(context, selector, selection));
    return kExitOk;
  }
  CKPT_ASSIGN_OR_RETURN(const ExportTarget target, ChooseTarget(context.arguments));
  std::optional<UnfinishedPath> unfinished_folder;
  if (target.made_folder) unfinished_folder.emplace(target.path);
  v1::CheckpointInfo info;
  uint64_t bytes_total = 0;
  absl::StatusOr<std::vector<std::string>> paths =
      PlanAndWrite(context, selector, target, info, bytes_total);
  if (!paths.ok()) {
    std::error_code ignored;
    if (target.made_folder) fs::remove(target.path, ignored);  // only where it is empty
    return paths.status();
  }
  Json json;
  json["run"] = info.id().run();
  json["step"] = info.id().step();
  json["data_bytes"] = bytes_total;
  json["files"] = *paths;
  PrintRecord(
      context.format, json,
      {{NameOf(info.id()),
        absl::StrCat("exported ", PrintByteSize(bytes_total), " to ",
                     target.folder ? absl::StrCat(target.path, " (", paths->size(), " files)")
                                   : target.path)}});
  return kExitOk;
}

}  // namespace

Verb CheckpointExport() {
  return {
      .command =
          {.name = "checkpoint export",
           .summary = "Write a checkpoint as plain safetensors files, or for torch.load",
           .positionals =
               {{.name = "RUN@STEP", .help = "or RUN@latest, RUN@latest-valid, RUN@TAG"},
                {.name = "FILE-or-DIR",
                 .help = "one file, or a folder (ends with /, exists, or --shard-size is given)",
                 .count_min = 0,
                 .is_path = true}},
           .flags = WithSelectionFlags(
               {{.name = "format",
                 .value = "FORMAT",
                 .help = "safetensors or torch (default: torch for .pt, .pth and .bin)"},
                {.name = "shard-size",
                 .value = "SIZE",
                 .help = "a folder of files of at most 2GiB, ... of tensors (default there: 5GB)"},
                {.name = "force", .help = "replace the files that are there", .letter = 'f'},
                {.name = "dry-run",
                 .help = "write nothing: say how much would be read, and from which tier"},
                SliceFlag()}),
           .details =
               "Shards are merged to whole tensors. Every block is verified; an export that fails "
               "leaves nothing behind.\n\nsafetensors: what each rank has of its own is called "
               "KEY.rankN when there are several ranks. Plain values are\none JSON object, "
               "`values`, in __metadata__, and what --slice left of KEY stands there as "
               "ckptd.slice.KEY. What an imported file said of itself\nthere is there again. C64 "
               "becomes F32 with a last dimension of 2. A tensor whose name is taken gets a\n\"_\" "
               "behind it. A folder gets model-00001-of-0000N.safetensors and "
               "model.safetensors.index.json.\n\ntorch: one file for torch.load, with nested "
               "dictionaries and lists, plain values in their places, and aliases\nthat share a "
               "storage (where --slice leaves the same of them). It is of one rank's state. With "
               "weights_only,\nPyTorch 1.13 reads no floats, and up to 2.4 none reads bytes.\n\n"
               "A range of --slice is BEGIN:END, either of them left out or, where negative, "
               "counted from the end; or one\nindex N, which means N:N+1: the tensor keeps all its "
               "dimensions. It must lie in the tensor; dimensions without\na range are whole.\n\n" +
               std::string(kSelectionHelp)},
      .default_timeout = absl::InfiniteDuration(),
      .run = ExportCheckpoint};
}

}  // namespace ckpt::cli
