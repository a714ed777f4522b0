// Opening the index: options, column families, and what a damaged one is called.
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "rocksdb/cache.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"
#include "server/index/environment.h"
#include "server/index/rocks_index.h"
#include "server/index/rocks_log.h"

namespace ckpt {
namespace {

constexpr char kVersionKey[] = "index format";
constexpr char kVersion[] = "2";
constexpr char kUnconfirmedKey[] = "made anew, not confirmed";
constexpr char kPoliciesKey[] = "runs have policies of their own";
constexpr size_t kBlockCacheBytes = 64 << 20;
constexpr size_t kMemtableBytes = 16 << 20;
constexpr uint64_t kWalBytesMax = 128 << 20;
constexpr size_t kManifestAheadBytes = 64 << 10;  // 4 MiB by default, of a disk that may be full
constexpr size_t kCopyBytes = 1 << 20;
constexpr char kCopySuffix[] = ".copy";
// A start reads the logs and writes no tables, so that it serves soon, and begins another log. Of
// so many it makes tables all the same: they are read, and copied, at every start.
constexpr size_t kLogsMax = 8;

const char* const kFamilyNames[kFamilyCount] = {"default", "checkpoints", "attempts", "parts",
                                                "layouts", "leaves",      "files",    "runs",
                                                "tags",    "aborted",     "tasks"};

rocksdb::ColumnFamilyOptions FamilyOptions(const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.checksum = rocksdb::kXXH3;  // the packaged CRC-32C is not hardware accelerated
  table.format_version = 5;
  table.block_cache = cache;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.write_buffer_size = kMemtableBytes;
  options.compression = rocksdb::kLZ4Compression;
  return options;
}

rocksdb::DBOptions DatabaseOptions(const IndexEnvironment& environment, bool keep_logs) {
  rocksdb::DBOptions options;
  options.env = environment.env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.paranoid_checks = true;
  options.max_background_jobs = 2;
  options.max_total_wal_size = kWalBytesMax;
  options.manifest_preallocation_size = kManifestAheadBytes;
  options.db_write_buffer_size = environment.memtables_bytes_max;
  options.info_log = MakeRocksLog();
  options.max_open_files = 256;
  options.stats_dump_period_sec = 0;
  options.avoid_flush_during_recovery = keep_logs;
  return options;
}

rocksdb::Status Copy(rocksdb::Env* env, const std::string& from, const std::string& to) {
  std::unique_ptr<rocksdb::SequentialFile> source;
  std::unique_ptr<rocksdb::WritableFile> copy;
  rocksdb::Status status = env->NewSequentialFile(from, &source, rocksdb::EnvOptions());
  if (status.ok()) status = env->NewWritableFile(to, &copy, rocksdb::EnvOptions());
  std::string buffer(kCopyBytes, '\0');
  while (status.ok()) {
    rocksdb::Slice bytes;
    status = source->Read(buffer.size(), &bytes, buffer.data());
    if (!status.ok() || bytes.empty()) break;
    status = copy->Append(bytes);
  }
  if (status.ok()) status = copy->Sync();
  if (status.ok()) status = copy->Close();
  return status;
}

rocksdb::Status Sync(rocksdb::Env* env, const std::string& path) {
  std::unique_ptr<rocksdb::WritableFile> log;
  rocksdb::Status status = env->ReopenWritableFile(path, &log, rocksdb::EnvOptions());
  if (status.ok()) status = log->Sync();
  if (status.ok()) status = log->Close();
  return status;
}

// RocksDB knows of ENOSPC only.
bool IsFull(const rocksdb::Status& status) {
  return status.IsNoSpace() || absl::StrContains(status.ToString(), "Disk quota exceeded");
}

// The last process may have left batches in its logs that were never synced. RocksDB replays those
// and goes on in a new log; a power cut that then took them would leave a gap, and what follows in
// the new log would be taken, too, or counted behind it as if nothing were missing. To sync them is
// not enough: where a sync has failed, the pages still read, and no later one writes them. Counts
// the logs.
rocksdb::Status MakeLogsLast(rocksdb::Env* env, const std::string& path, size_t& logs) {
  std::vector<std::string> names;
  rocksdb::Status status = env->GetChildren(path, &names);
  for (const std::string& name : names) {
    if (!status.ok()) return status;
    const std::string log = absl::StrCat(path, "/", name);
    if (absl::EndsWith(name, kCopySuffix) || absl::EndsWith(name, kTableSuffix)) {
      env->DeleteFile(log).PermitUncheckedError();
    }
    if (!absl::EndsWith(name, ".log")) continue;
    ++logs;
    const std::string copy = log + kCopySuffix;
    status = Copy(env, log, copy);
    if (status.ok()) {
      status = env->RenameFile(copy, log);
      continue;
    }
    env->DeleteFile(copy).PermitUncheckedError();
    if (IsFull(status)) status = Sync(env, log);  // a full disk is still read
  }
  std::unique_ptr<rocksdb::Directory> folder;
  if (status.ok()) status = env->NewDirectory(path, &folder);
  if (status.ok()) status = folder->Fsync();
  return status;
}

absl::Status OpenError(const rocksdb::Status& status, const std::string& path) {
  const std::string text = status.ToString();
  if (absl::StrContains(text, "LOCK") || absl::StrContains(text, "While lock file")) {
    return absl::FailedPreconditionError(absl::StrCat("the index is in use: ", text));
  }
  if (IsFull(status)) {
    return absl::ResourceExhaustedError(absl::StrCat("no disk space to open the index at ", path,
                                                     ": free some MiB there (", text, ")"));
  }
  if (absl::StrContains(text, "Permission denied") ||
      absl::StrContains(text, "Read-only file system")) {
    return absl::PermissionDeniedError(absl::StrCat("cannot open the index: ", text));
  }
  return index_records::Damaged(absl::StrCat(path, ": ", text));
}

}  // namespace

absl::Status FromRocks(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (status.IsNotFound()) return absl::NotFoundError("not in the index");
  if (status.IsCorruption()) return index_records::Damaged(status.ToString());
  if (IsFull(status)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no disk space for the index: ", status.ToString()));
  }
  return absl::InternalError(absl::StrCat("the index failed: ", status.ToString()));
}

absl::StatusOr<std::unique_ptr<Index>> Index::Open(const std::string& path,
                                                   IndexEnvironment* environment,
                                                   IndexTroubles troubles) {
  IndexEnvironment real;
  if (environment == nullptr) environment = &real;
  // RocksDB makes it too, but calls it an error that it was missing.
  const rocksdb::Status made = environment->env->CreateDirIfMissing(path);
  if (IsFull(made)) return OpenError(made, path);  // anything else is said by what follows
  size_t logs = 0;
  const rocksdb::Status lasting = MakeLogsLast(environment->env, path, logs);
  if (!lasting.ok()) return OpenError(lasting, path);
  const std::shared_ptr<rocksdb::Cache> cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (const char* name : kFamilyNames) descriptors.emplace_back(name, FamilyOptions(cache));
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const auto open = [&](bool keep_logs) {
    return rocksdb::DB::Open(DatabaseOptions(*environment, keep_logs), path, descriptors, &handles,
                             &db);
  };
  const bool keep_logs = logs < kLogsMax;
  rocksdb::Status opened = open(keep_logs);
  if (!keep_logs && IsFull(opened)) opened = open(/*keep_logs=*/true);  // it is still read
  if (!opened.ok()) return OpenError(opened, path);
  std::array<rocksdb::ColumnFamilyHandle*, kFamilyCount> families;
  std::copy(handles.begin(), handles.end(), families.begin());
  auto index = std::make_unique<RocksIndex>(std::unique_ptr<rocksdb::DB>(db), families);

  std::string version;
  const rocksdb::Status read = db->Get({}, kVersionKey, &version);
  if (!read.ok() && !read.IsNotFound()) return OpenError(read, path);
  if (version == "1") CKPT_RETURN_IF_ERROR(index->UpgradeFromFormat1());
  if (version.empty() || version == "1") {
    rocksdb::WriteOptions synced;
    synced.sync = true;
    rocksdb::WriteBatch born;
    born.Put(kVersionKey, kVersion);
    if (version.empty()) born.Put(kUnconfirmedKey, "");
    CKPT_RETURN_IF_ERROR(FromRocks(db->Write(synced, &born)));
  } else if (version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the index at ", path, " has format ", version, ", this program knows ",
                     kVersion, "; it is only derived: run `ckptutil rebuild-index DATA_FOLDER`"));
  }
  CKPT_RETURN_IF_ERROR(index->SweepLayouts());
  index->TellTroubles(std::move(troubles));
  return index;
}

RocksIndex::RocksIndex(std::unique_ptr<rocksdb::DB> db,
                       std::array<rocksdb::ColumnFamilyHandle*, kFamilyCount> families)
    : db_(std::move(db)), families_(families) {}

RocksIndex::~RocksIndex() {
  for (rocksdb::ColumnFamilyHandle* family : families_) {
    db_->DestroyColumnFamilyHandle(family);
  }
}

absl::StatusOr<std::string> RocksIndex::Get(Family family, absl::string_view key) {
  std::string row;
  CKPT_RETURN_IF_ERROR(FromRocks(db_->Get({}, families_[family], SliceOf(key), &row)));
  return row;
}

absl::Status RocksIndex::Write(rocksdb::WriteBatch& batch) {
  rocksdb::WriteOptions options;
  options.sync = true;
  return Written(db_->Write(options, &batch));
}

// Once its log, or a table, could not be written RocksDB takes nothing more. From a full disk it
// recovers by itself.
absl::Status RocksIndex::Written(const rocksdb::Status& status) {
  absl::Status written = Fitted(status);
  if (!status.ok() && !status.IsNoSpace() && troubles_.broken != nullptr) troubles_.broken(written);
  return written;
}

absl::Status RocksIndex::Fitted(const rocksdb::Status& status) {
  if (status.IsNoSpace() && troubles_.full != nullptr) troubles_.full();
  return FromRocks(status);
}

absl::StatusOr<bool> RocksIndex::HasMark(const char* key) {
  const absl::Status mark = Get(kDefault, key).status();
  if (absl::IsNotFound(mark)) return false;
  CKPT_RETURN_IF_ERROR(mark);
  return true;
}

absl::Status RocksIndex::SetMark(const char* key, bool there) {
  rocksdb::WriteBatch batch;
  there ? batch.Put(families_[kDefault], key, "") : batch.Delete(families_[kDefault], key);
  return Write(batch);
}

absl::StatusOr<bool> RocksIndex::AwaitsConfirmation() { return HasMark(kUnconfirmedKey); }
absl::Status RocksIndex::AwaitConfirmation() { return SetMark(kUnconfirmedKey, true); }
absl::Status RocksIndex::Confirm() { return SetMark(kUnconfirmedKey, false); }
absl::StatusOr<bool> RocksIndex::KnowsPolicies() { return HasMark(kPoliciesKey); }
absl::Status RocksIndex::SetKnowsPolicies(bool known) { return SetMark(kPoliciesKey, known); }

std::unique_ptr<rocksdb::Iterator> RocksIndex::Scan(Family family, const rocksdb::Slice* lower,
                                                    const rocksdb::Slice* upper) {
  rocksdb::ReadOptions options;
  options.iterate_lower_bound = lower;
  options.iterate_upper_bound = upper;
  return std::unique_ptr<rocksdb::Iterator>(db_->NewIterator(options, families_[family]));
}

absl::Status RocksIndex::ForEachRow(
    Family family, absl::string_view prefix, bool descending,
    absl::FunctionRef<absl::StatusOr<bool>(absl::string_view, absl::string_view)> visit) {
  const std::string end = index_keys::After(prefix);
  const rocksdb::Slice lower = SliceOf(prefix);
  const rocksdb::Slice upper = SliceOf(end);
  auto rows = Scan(family, &lower, end.empty() ? nullptr : &upper);
  descending ? rows->SeekToLast() : rows->SeekToFirst();
  while (rows->Valid()) {
    CKPT_ASSIGN_OR_RETURN(const bool more, visit(ViewOf(rows->key()), ViewOf(rows->value())));
    if (!more) return absl::OkStatus();
    descending ? rows->Prev() : rows->Next();
  }
  return FromRocks(rows->status());
}

}  // namespace ckpt
