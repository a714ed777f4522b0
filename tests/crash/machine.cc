#include "tests/crash/machine.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "server/storage/names.h"

namespace ckpt::crash {
namespace {

using State = Promise::State;

// Whoever holds this one is pinned as well: pins and tags lie in one file, and survive together.
constexpr char kTagOfPinned[] = "old";

std::set<std::string> TagsOf(const CheckpointRecord& record) {
  return {record.labels.tags().begin(), record.labels.tags().end()};
}

std::set<std::string> NamesIn(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.insert(entry.path().filename());
  }
  return names;
}

std::string Difference(const std::string& what, const std::set<std::string>& found,
                       const std::set<std::string>& expected) {
  std::string text;
  for (const std::string& name : found) {
    if (!expected.contains(name)) absl::StrAppend(&text, what, " leaked: ", name, "\n");
  }
  for (const std::string& name : expected) {
    if (!found.contains(name)) absl::StrAppend(&text, what, " lacks ", name, "\n");
  }
  return text;
}

}  // namespace

Machine::Machine(const std::string& path, size_t memtables_bytes_max)
    : path_(path), data_(path + "/data"), memtables_bytes_max_(memtables_bytes_max) {
  std::filesystem::create_directory(path_);
  std::filesystem::create_directory(path_ + "/shadow");
  disk_ = std::make_unique<FaultyFileSystem>(path_ + "/shadow");
  // What RocksDB relies on (README.md): the MANIFEST's new name survives before that of the CURRENT
  // that tells of it, and no hole is in what survives of it.
  disk_->KeepOrderIn(absl::StrCat("/", names::kIndex));
  disk_->KeepPrefixesOf("/MANIFEST-");
  rocks_ = MakeFaultyRocks(disk_.get(), memtables_bytes_max_);
}

Machine::Machine(const std::string& path, const Machine& other)
    : Machine(path, other.memtables_bytes_max_) {
  if (std::filesystem::exists(other.data_)) {
    std::filesystem::copy(other.data_, data_, std::filesystem::copy_options::recursive);
  }
  kept_parts = other.kept_parts;
  book_ = other.book_;
}

Machine::~Machine() {
  Stop();
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::Status Machine::Start() {
  CKPT_ASSIGN_OR_RETURN(store_,
                        Store::Open(data_, disk_.get(), Store::SmallWrites(), rocks_.get()));
  const absl::StatusOr<RecoveryReport> report =
      RecoverDataFolder(&store_->folder(), &store_->index(), kept_parts);
  if (report.ok() && report->damaged == 0) return absl::OkStatus();
  Stop();
  CKPT_RETURN_IF_ERROR(report.status());
  return absl::DataLossError(absl::StrJoin(report->damage, "\n"));
}

void Machine::Stop() { store_.reset(); }

CheckpointUid Machine::Expect(uint32_t seed) {
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  book_[uid] = {.state = State::kUnknown, .seed = seed};
  return uid;
}

absl::Status Machine::Save(const CheckpointId& id, uint32_t seed,
                           const std::vector<uint64_t>& tensor_bytes) {
  const CheckpointUid uid = Expect(seed);
  return Answered(uid, store_->Save(id, uid, tensor_bytes, kRanks, seed).status());
}

absl::Status Machine::Replace(const CheckpointId& id, CheckpointUid replaced, uint32_t seed) {
  const CheckpointUid uid = Expect(seed);
  book_[uid].replaces = replaced;
  book_[replaced].state = State::kUnknown;  // at any moment from here on
  return Answered(uid, store_->Save(id, uid, kTensorBytes, kRanks, seed).status());
}

// An error says that it is not committed - if there was anybody left to say so.
absl::Status Machine::Answered(CheckpointUid uid, absl::Status saved) {
  if (saved.ok()) Committed(uid);
  if (!saved.ok() && !disk_->crashed()) book_[uid].state = State::kGone;
  return saved;
}

absl::Status Machine::Delete(CheckpointUid uid) {
  book_[uid].state = State::kUnknown;
  CKPT_RETURN_IF_ERROR(store_->persister().Delete(uid));
  book_[uid].state = State::kGone;
  return absl::OkStatus();
}

absl::Status Machine::SetTags(CheckpointUid uid, const std::set<std::string>& tags) {
  Promise& promise = book_[uid];
  promise.tags.push_back(tags);
  v1::Labels labels;
  for (const std::string& tag : tags) labels.add_tags(tag);
  labels.set_pinned(tags.contains(kTagOfPinned));
  CKPT_RETURN_IF_ERROR(store_->folder().WriteLabels(uid, labels));
  CKPT_RETURN_IF_ERROR(store_->index().PutLabels(uid, labels));
  promise.tags = {tags};
  return absl::OkStatus();
}

std::string Machine::Oracle() {
  const std::string wrong = CheckCheckpoints();  // first: it settles what was unknown
  return wrong + CheckFiles();
}

std::string Machine::CheckCheckpoints() {
  std::string wrong;
  Index& index = store_->index();
  const absl::StatusOr<std::vector<CheckpointUid>> listed = index.AllCheckpoints();
  if (!listed.ok()) return absl::StrCat("not listed: ", listed.status().ToString(), "\n");
  const std::set<CheckpointUid> visible(listed->begin(), listed->end());
  std::map<std::string, CheckpointUid> holders;
  for (const CheckpointUid uid : visible) {
    if (!book_.contains(uid)) absl::StrAppend(&wrong, "nobody saved ", uid.hex(), "\n");
  }
  for (auto& [uid, promise] : book_) {
    if (promise.state == State::kUnknown) {
      promise.state = visible.contains(uid) ? State::kCommitted : State::kGone;
    }
    if (promise.state == State::kGone) {
      if (visible.contains(uid)) absl::StrAppend(&wrong, "visible again: ", uid.hex(), "\n");
      continue;
    }
    const absl::Status whole = store_->Check(uid, promise.seed);
    if (!whole.ok()) absl::StrAppend(&wrong, "not restorable: ", whole.ToString(), "\n");
    const absl::StatusOr<CheckpointRecord> record = index.GetCheckpoint(uid);
    if (!record.ok()) {
      absl::StrAppend(&wrong, "lost: ", uid.hex(), ": ", record.status().ToString(), "\n");
      continue;
    }
    const std::set<std::string> tags = TagsOf(*record);
    if (std::find(promise.tags.begin(), promise.tags.end(), tags) == promise.tags.end()) {
      absl::StrAppend(&wrong, "tags of ", uid.hex(), ": ", absl::StrJoin(tags, ","), "\n");
    }
    if (record->labels.pinned() != tags.contains(kTagOfPinned)) {
      absl::StrAppend(&wrong, "its pin is ", record->labels.pinned() ? "back: " : "lost: ",
                      uid.hex(), "\n");
    }
    promise.tags = {tags};
    for (const std::string& tag : tags) {
      if (!holders.emplace(tag, uid).second) absl::StrAppend(&wrong, "held twice: ", tag, "\n");
      const auto held = index.FindTag(record->manifest.id().run(), tag);
      if (!held.ok() || held->manifest.checkpoint_uid() != uid.bytes()) {
        absl::StrAppend(&wrong, "tag ", tag, " does not find its checkpoint\n");
      }
    }
  }
  for (const auto& [uid, promise] : book_) {
    if (promise.replaces.has_value() && promise.state == book_[*promise.replaces].state) {
      absl::StrAppend(&wrong, "both or neither: ", uid.hex(), " and what it replaces\n");
    }
  }
  if (index.CheckpointCount() != visible.size()) {
    absl::StrAppend(&wrong, "the runs count ", index.CheckpointCount(), " checkpoints of ",
                    visible.size(), "\n");
  }
  const absl::StatusOr<std::vector<CheckpointUid>> tombstones = index.Tombstones();
  if (!tombstones.ok() || !tombstones->empty()) absl::StrAppend(&wrong, "a tombstone is left\n");
  return wrong;
}

// Files are exactly those that somebody references, and the index knows of them.
std::string Machine::CheckFiles() {
  DataFolder& folder = store_->folder();
  std::set<std::string> checkpoints;
  std::set<std::string> objects;
  std::set<std::string> kept;
  const auto add_part = [&](FileId manifest_id, std::set<std::string>& names) {
    names.insert(names::PartManifest(manifest_id));
    const auto part = folder.ReadPartManifest(manifest_id);
    if (!part.ok()) return;
    for (const v1::DataFile& file : part->files()) {
      names.insert(names::DataFile(*FileId::FromBytes(file.file_id(), "id")));
    }
  };
  for (const auto& [uid, promise] : book_) {
    if (promise.state != State::kCommitted) continue;
    checkpoints.insert(names::CheckpointManifest(uid));
    const auto manifest = folder.ReadCheckpointManifest(uid);
    if (!manifest.ok()) continue;  // reported above
    for (const v1::PartReference& part : manifest->parts()) {
      add_part(*FileId::FromBytes(part.manifest_id(), "id"), objects);
    }
    const std::string labels = names::Labels(uid);
    if (std::filesystem::exists(folder.CheckpointsFolder() + "/" + labels)) {
      checkpoints.insert(labels);
    }
  }
  for (const FileId part : kept_parts) add_part(part, kept);
  std::set<std::string> indexed;
  std::string wrong;
  const absl::Status read = store_->index().ForEachFile([&](FileId file, CheckpointUid) {
    const bool data = objects.contains(names::DataFile(file));
    indexed.insert(data ? names::DataFile(file) : names::PartManifest(file));
    return true;
  });
  if (!read.ok()) absl::StrAppend(&wrong, "files of the index: ", read.ToString(), "\n");
  absl::StrAppend(&wrong, Difference("the index's files", indexed, objects));
  objects.insert(kept.begin(), kept.end());
  return absl::StrCat(
      wrong, Difference("objects/", NamesIn(folder.ObjectsFolder()), objects),
      Difference("checkpoints/", NamesIn(folder.CheckpointsFolder()), checkpoints),
      Difference("the data folder", NamesIn(data_),
                 {names::kFormat, names::kLock, names::kObjects, names::kCheckpoints,
                  names::kIndex}));
}

}  // namespace ckpt::crash
