// ckptctl checkpoint import RUN@STEP FILE...
//
// 1. Every file is opened and its header checked, before the daemon is asked for anything.
// 2. One part (world size 1, a new incarnation) is saved through the client library, which reads
//    the files piece by piece while it copies them.
// 3. It waits for COMMITTED. Whatever happens before that leaves nothing visible.
#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/import_files.h"
#include "client/cli/leaf_record.h"
#include "client/cli/terminal.h"
#include "client/cli/verb.h"
#include "common/checkpoint_id.h"
#include "common/key.h"
#include "common/safetensors.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

// The copy has no way to report that a source failed, and a part with wrong bytes must not be
// finished: the process ends, its session closes, and the daemon aborts the part at once.
[[noreturn]] void EndWithoutFinish(const absl::Status& status) {
  const std::string text =
      absl::StrCat("ckptctl: ", status.message(), "; the import was given up, nothing was saved\n");
  std::fputs(text.c_str(), stderr);
  _exit(ToExitCode(status));
}

PartLeaf MakeTensor(const ImportLeaf& import) {
  PartLeaf leaf =
      TensorLeaf(import.key, import.dtype, import.shape, nullptr, v1::PLACEMENT_REPLICATED);
  if (import.alias_of) {
    leaf.alias_of_plus_one = static_cast<uint32_t>(*import.alias_of) + 1;
  }
  leaf.copy = [read = import.read](uint64_t begin, uint64_t bytes, std::byte* out) {
    const absl::Status status = read(begin, bytes, out);
    if (!status.ok()) EndWithoutFinish(status);
  };
  return leaf;
}

PartLeaf MakeLeaf(const ImportLeaf& import) {
  if (import.kind == v1::LEAF_KIND_TENSOR) return MakeTensor(import);
  if (import.kind == v1::LEAF_KIND_VALUE) {
    return ValueLeaf(import.key, import.value, v1::PLACEMENT_REPLICATED);
  }
  PartLeaf leaf;  // an empty container
  leaf.key = import.key;
  leaf.kind = import.kind;
  leaf.placement = v1::PLACEMENT_REPLICATED;
  return leaf;
}

Part MakeImportPart(const ImportSet& set) {
  Part part;
  for (const ImportLeaf& leaf : set.leaves) part.leaves.push_back(MakeLeaf(leaf));
  for (const auto& [name, text] : set.metadata) {
    v1::Value value;
    value.set_text(text);
    part.leaves.push_back(ValueLeaf(MakeKey({kSafetensorsMetadata, name}), std::move(value),
                                    v1::PLACEMENT_REPLICATED));
  }
  return part;
}

// An import counts as a new launch of its run: what a trainer is writing there would be aborted.
absl::Status CheckNobodyWrites(VerbContext& context, const std::string& run) {
  v1::ListCheckpointsRequest request;
  request.set_run(run);
  v1::ListCheckpointsResponse response;
  const absl::Status status = context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.catalog().ListCheckpoints(call, request, &response);
  });
  if (absl::IsNotFound(status)) return absl::OkStatus();
  CKPT_RETURN_IF_ERROR(status);
  for (const v1::CheckpointInfo& info : response.checkpoints()) {
    if (info.state() != v1::CHECKPOINT_STATE_WRITING) continue;
    return Confirm(context.arguments.Has("yes"),
                   absl::StrCat("abort ", NameOf(info.id()), ", which a trainer is writing"));
  }
  return absl::OkStatus();
}

bool Drains(Connection& connection) {
  v1::GetStatusResponse response;
  const absl::Status asked = connection.Call([&](grpc::ClientContext* call) {
    return connection.admin().GetStatus(call, {}, &response);
  });
  return asked.ok() && response.draining();
}

// A daemon that died says only that its socket closed.
absl::Status Explain(const absl::Status& status, Connection& connection, const CheckpointId& id,
                     bool staged, const SaveProgress& progress) {
  if (!absl::IsUnavailable(status)) return status;
  if (!staged && Drains(connection)) {
    const absl::StatusOr<bool> serving = connection.Serving();  // false: it is about to end
    const bool may_resume = serving.ok() && *serving;
    return absl::UnavailableError(absl::StrCat(
        status.message(), may_resume ? "; ckptctl drain --resume lets it admit saves again" : ""));
  }
  const std::string name = absl::StrCat(id.run, "@", id.step);
  if (staged) {
    return absl::UnavailableError(
        absl::StrCat(status.message(), ": the daemon went away, but had every byte of ", name,
                     ": once it is back it makes it durable; see ckptctl checkpoint wait ", name));
  }
  if (progress.bytes_copied < progress.bytes_total) {
    return absl::UnavailableError(absl::StrCat(status.message(),
                                               ": the daemon went away while it was given ", name,
                                               ": import it again once it is back"));
  }
  return absl::UnavailableError(
      absl::StrCat(status.message(), ": the daemon went away before it said that it has every byte "
                   "of ", name, ": once it is back, ckptctl checkpoint wait ", name,
                   " tells whether it has; if not, import it again"));
}

absl::Status AwaitImported(SaveHandle& save, Connection& connection, const CheckpointId& id,
                           ProgressBar& bar, absl::Time deadline) {
  const auto slice = [deadline] {
    return std::min(absl::Milliseconds(100),
                    std::max(deadline - absl::Now(), absl::ZeroDuration()));
  };
  for (const bool staged : {false, true}) {
    for (;;) {
      const absl::Status status = staged ? save.AwaitCommitted(slice()) : save.AwaitStaged(slice());
      const SaveProgress progress = save.Progress();
      bar.Show(progress.bytes_copied, progress.bytes_total);
      if (status.ok()) break;
      if (!absl::IsDeadlineExceeded(status) || absl::Now() >= deadline) {
        return Explain(status, connection, id, staged, progress);
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ExitCode> ImportCheckpoint(VerbContext& context) {
  const auto& positionals = context.arguments.positionals();
  CKPT_ASSIGN_OR_RETURN(const v1::Selector selector, ParseSelector(positionals[0]));
  if (selector.which_case() != v1::Selector::kStep) {
    return absl::InvalidArgumentError(
        absl::StrCat("import needs a step's number, as ", selector.run(), "@1200"));
  }
  const absl::Time deadline = absl::Now() + context.connection.timeout();
  CKPT_ASSIGN_OR_RETURN(const ImportSet set,
                        OpenImportSet(absl::MakeConstSpan(positionals).subspan(1)));
  CKPT_RETURN_IF_ERROR(CheckNobodyWrites(context, selector.run()));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, context.connection.ConnectClient());
  const CheckpointId id{selector.run(), selector.step(), Incarnation::TimeOrdered()};
  SaveOptions options;
  options.if_exists = context.arguments.Has("force") ? v1::IF_EXISTS_REPLACE : v1::IF_EXISTS_FAIL;
  CKPT_ASSIGN_OR_RETURN(SaveHandle save, client->Save(id, MakeImportPart(set), options));
  {
    ProgressBar bar(absl::StrCat(id.run, "@", id.step));
    const absl::Status imported = AwaitImported(save, context.connection, id, bar, deadline);
    if (absl::IsAlreadyExists(imported)) {
      return absl::AlreadyExistsError(
          absl::StrCat(id.run, "@", id.step, " exists already; --force replaces it"));
    }
    CKPT_RETURN_IF_ERROR(imported);
  }
  Json json;
  json["run"] = id.run;
  json["step"] = id.step;
  json["incarnation"] = id.incarnation.hex();
  json["tensor_count"] = set.tensor_count;
  json["data_bytes"] = set.data_bytes;
  PrintRecord(context.format, json,
              {{absl::StrCat(id.run, "@", id.step),
                absl::StrCat("imported ", TotalText(set.tensor_count, 0, set.data_bytes),
                             ", committed")}});
  return kExitOk;
}

}  // namespace

Verb CheckpointImport() {
  return {
      .command =
          {.name = "checkpoint import",
           .summary = "Save safetensors or torch.save files that somebody else made",
           .positionals = {{.name = "RUN@STEP", .help = "what it shall be called: a step's number"},
                           {.name = "FILE",
                            .help = "safetensors or torch.save files, an index JSON, or a folder",
                            .count_max = 100000,
                            .is_path = true}},
           .flags = {{.name = "force", .help = "replace the step if it exists", .letter = 'f'},
                     {.name = "yes",
                      .help = "don't ask before disturbing a trainer",
                      .letter = 'y'}},
           .details =
               "The files are checked as a whole first; then their data is copied, never held in "
               "memory as a whole.\nNothing in a torch.save file is executed: tensors, "
               "dictionaries, lists and plain values are read, tuples\nbecome lists, anything else "
               "is refused by its name. The __metadata__ of safetensors is kept as text "
               "values.\nAn import counts as a new launch of its run: import into a run of its "
               "own, not into one that a trainer is\nsaving to."},
      .default_timeout = absl::InfiniteDuration(),
      .run = ImportCheckpoint};
}

}  // namespace ckpt::cli
