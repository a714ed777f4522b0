#include "tests/crash/protocols.h"

#include "common/digest.h"
#include "common/status_macros.h"
#include "server/offline/command.h"
#include "server/storage/names.h"
#include "tests/fixtures/setting.h"

namespace ckpt::crash {
namespace {

CheckpointUid UidAt(Machine& machine, uint64_t step) {
  const auto record = machine.store().index().FindStep("r", step, std::nullopt);
  if (!record.ok()) std::abort();
  return *CheckpointUid::FromBytes(record->manifest.checkpoint_uid(), "uid");
}

absl::Status Nothing(Machine&) { return absl::OkStatus(); }

// Two checkpoints, one of them tagged.
absl::Status TwoCheckpoints(Machine& machine) {
  CKPT_RETURN_IF_ERROR(machine.Start());
  CKPT_RETURN_IF_ERROR(machine.Save(IdOf("r", 1), 10));
  CKPT_RETURN_IF_ERROR(machine.Save(IdOf("r", 2), 20));
  return machine.SetTags(UidAt(machine, 1), {"best", "old"});
}

absl::Status FirstSave(Machine& machine) {
  CKPT_RETURN_IF_ERROR(machine.Start());
  return machine.Save(IdOf("r", 1), 10);
}

absl::Status NextSave(Machine& machine) { return machine.Save(IdOf("r", 3), 30); }

// Of several writes.
absl::Status LargeSave(Machine& machine) {
  return machine.Save(IdOf("r", 3), 30, {kMiB + 5, 700, 3});
}

absl::Status ReplaceOne(Machine& machine) {
  return machine.Replace(IdOf("r", 2, 2), UidAt(machine, 2), 30);
}

absl::Status DeleteOne(Machine& machine) { return machine.Delete(UidAt(machine, 1)); }

// As TagCheckpoint: the new holder first, then what the former one keeps.
absl::Status MoveTag(Machine& machine) {
  const CheckpointUid from = UidAt(machine, 1);
  const CheckpointUid to = UidAt(machine, 2);
  machine.book()[from].tags.push_back({"old"});
  CKPT_RETURN_IF_ERROR(machine.SetTags(to, {"best"}));
  return machine.SetTags(from, {"old"});
}

absl::Status EverythingAfterAnother(Machine& machine) {
  CKPT_RETURN_IF_ERROR(NextSave(machine));
  CKPT_RETURN_IF_ERROR(ReplaceOne(machine));
  CKPT_RETURN_IF_ERROR(MoveTag(machine));
  return DeleteOne(machine);
}

constexpr uint32_t kAdoptedSeed = 40;

PartToPersist AdoptedPart(CheckpointUid uid, uint32_t rank) {
  return MakePart(IdOf("r", 3), uid, LayoutOfSizes(kTensorBytes), kAdoptedSeed + rank, rank,
                  kRanks);
}

// Rank 0's part is durable and recorded so, rank 1's is in memory: there the daemon died.
absl::Status HalfPersisted(Machine& machine) {
  CKPT_RETURN_IF_ERROR(TwoCheckpoints(machine));
  const CheckpointUid uid = machine.Expect(kAdoptedSeed);
  CKPT_ASSIGN_OR_RETURN(const DurablePart part, machine.store().Persist(AdoptedPart(uid, 0)));
  machine.kept_parts.insert(*FileId::FromBytes(part.reference.manifest_id(), "id"));
  return absl::OkStatus();
}

// The next daemon's start, and what staging does with the parts that it finds.
absl::Status FinishAdopted(Machine& machine) {
  CheckpointUid uid;
  for (const auto& [known, promise] : machine.book()) {
    if (promise.seed == kAdoptedSeed) uid = known;
  }
  if (machine.store().folder().ReadCheckpointManifest(uid).ok()) {
    machine.Committed(uid);
    return absl::OkStatus();
  }
  std::vector<DurablePart> parts;
  DurablePart recorded;
  recorded.layout = LayoutOfSizes(kTensorBytes);
  CKPT_ASSIGN_OR_RETURN(recorded.manifest,
                        machine.store().folder().ReadPartManifest(*machine.kept_parts.begin()));
  recorded.manifest.clear_layout();
  const std::string path = machine.store().folder().ObjectsFolder() + "/" +
                           names::PartManifest(*machine.kept_parts.begin());
  CKPT_ASSIGN_OR_RETURN(const std::string bytes, machine.disk().ReadWhole(path));
  recorded.reference.set_rank(0);
  recorded.reference.set_manifest_id(machine.kept_parts.begin()->bytes());
  recorded.reference.set_manifest_length(bytes.size());
  recorded.reference.set_manifest_hash(Xxh3(bytes));
  recorded.reference.set_data_bytes(recorded.layout->data_bytes());
  parts.push_back(std::move(recorded));
  CKPT_ASSIGN_OR_RETURN(DurablePart other, machine.store().Persist(AdoptedPart(uid, 1)));
  parts.push_back(std::move(other));
  CKPT_RETURN_IF_ERROR(machine.store()
                           .persister()
                           .Commit(IdOf("r", 3), uid, kRanks, {0, 1}, parts)
                           .status());
  machine.Committed(uid);
  return absl::OkStatus();
}

absl::Status StartAndAdopt(Machine& machine) {
  CKPT_RETURN_IF_ERROR(machine.Start());
  return FinishAdopted(machine);
}

// Something of all that a start has to put right.
absl::Status Disorder(Machine& machine) {
  CKPT_RETURN_IF_ERROR(TwoCheckpoints(machine));
  Store& store = machine.store();
  // A tombstone.
  CKPT_RETURN_IF_ERROR(NextSave(machine));
  const CheckpointUid doomed = UidAt(machine, 3);
  CKPT_RETURN_IF_ERROR(store.index().Tombstone(doomed));
  machine.book()[doomed].state = Promise::State::kGone;
  // Committed, not indexed, and the replacement of another.
  const CheckpointUid newer = machine.Expect(50);
  std::vector<DurablePart> parts;
  for (uint32_t rank = 0; rank < kRanks; ++rank) {
    CKPT_ASSIGN_OR_RETURN(DurablePart part,
                          store.Persist(MakePart(IdOf("r", 2, 2), newer,
                                                 LayoutOfSizes(kTensorBytes), 50 + rank, rank,
                                                 kRanks)));
    parts.push_back(std::move(part));
  }
  const CheckpointUid older = UidAt(machine, 2);
  CKPT_ASSIGN_OR_RETURN(v1::CheckpointManifest manifest,
                        store.folder().ReadCheckpointManifest(older));
  *manifest.mutable_id() = IdOf("r", 2, 2).ToProto();
  manifest.set_checkpoint_uid(newer.bytes());
  manifest.set_replaces_uid(older.bytes());
  manifest.clear_parts();
  for (const DurablePart& part : parts) *manifest.add_parts() = part.reference;
  CKPT_RETURN_IF_ERROR(store.folder().PublishCheckpointManifest(manifest));
  machine.Committed(newer);
  machine.book()[older].state = Promise::State::kGone;
  // A label file that the index has not heard of, and one of nothing.
  v1::Labels labels;
  labels.add_tags("best");
  labels.add_tags("fast");
  const CheckpointUid tagged = UidAt(machine, 1);
  CKPT_RETURN_IF_ERROR(store.folder().WriteLabels(tagged, labels));
  machine.book()[tagged].tags = {{"best", "fast"}};
  CKPT_RETURN_IF_ERROR(store.folder().WriteLabels(CheckpointUid::TimeOrdered(), labels));
  // Parts that nobody references.
  const CheckpointUid never = CheckpointUid::TimeOrdered();
  return store.Persist(MakePart(IdOf("r", 9), never, LayoutOfSizes({100}), 1)).status();
}

absl::Status StartOnly(Machine& machine) { return machine.Start(); }

// So many logs that the next start makes tables of them.
absl::Status ManyStarts(Machine& machine) {
  CKPT_RETURN_IF_ERROR(TwoCheckpoints(machine));
  for (int start = 0; start < 8; ++start) {
    machine.Stop();
    CKPT_RETURN_IF_ERROR(machine.Start());
  }
  return DeleteOne(machine);
}

absl::Status AfterADeletion(Machine& machine) {
  CKPT_RETURN_IF_ERROR(TwoCheckpoints(machine));
  return DeleteOne(machine);
}

absl::Status RebuildIndex(Machine& machine) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<DataFolder> folder,
                        DataFolder::OpenExisting(&machine.disk(), machine.data()));
  return offline::RebuildIndexOf(folder.get(), machine.index_environment()).status();
}

// So few that each batch makes the background threads write what the family holds.
constexpr size_t kFlushAlways = 1;

}  // namespace

uint64_t Every(const Protocol& protocol) {
#ifdef CKPT_SANITIZED
  constexpr uint64_t kFewer = 5;  // all is slow
#else
  constexpr uint64_t kFewer = 1;
#endif
  const bool flushes = protocol.memtables_bytes_max == kFlushAlways;  // many calls, and slow ones
  return TestSetting("CKPT_CRASH_EVERY", (flushes ? 29 : 7) * kFewer);
}

const std::vector<Protocol>& Protocols() {
  static const std::vector<Protocol>* const protocols = new std::vector<Protocol>{
      {"FirstSave", Nothing, false, FirstSave},
      {"Save", TwoCheckpoints, true, LargeSave},
      {"Replace", TwoCheckpoints, true, ReplaceOne},
      {"Delete", TwoCheckpoints, true, DeleteOne},
      {"Tag", TwoCheckpoints, true, MoveTag},
      {"Adopt", HalfPersisted, false, StartAndAdopt, FinishAdopted},
      {"Recover", Disorder, false, StartOnly},
      {"RecoverManyLogs", ManyStarts, false, StartOnly},
      {"RebuildIndex", AfterADeletion, false, RebuildIndex},
      {"AllWhileTheIndexFlushes", TwoCheckpoints, true, EverythingAfterAnother, nullptr,
       kFlushAlways},
      {"RecoverWhileTheIndexFlushes", Disorder, false, StartOnly, nullptr, kFlushAlways},
  };
  return *protocols;
}

}  // namespace ckpt::crash
