#include "tests/staging/staging_rig.h"

#include <stdlib.h>

#include <cstring>
#include <filesystem>

#include "common/status_macros.h"

namespace ckpt {
namespace {

std::string MakeShadow(const std::string& data_folder) {
  const std::string shadow = data_folder + "/shadow";
  std::filesystem::create_directory(shadow);
  return shadow;
}

}  // namespace

absl::Time TestClock::Now() const {
  MutexLock lock(mutex_);
  return now_;
}

void TestClock::Advance(absl::Duration duration) {
  MutexLock lock(mutex_);
  now_ += duration;
}

TestFolder::TestFolder(const std::string& parent) {
  path_ = parent + "/ckptd-test-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) std::abort();
}

TestFolder::~TestFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  std::filesystem::remove(path_ + ".fd", ignored);
}

StagingRig::StagingRig(RigOptions options)
    : options_(options),
      memory_folder_("/dev/shm"),
      data_folder_(std::filesystem::temp_directory_path().string()),
      files_(MakeShadow(data_folder_.path())) {
  Start();
}

StagingRig::~StagingRig() { Crash(); }

void StagingRig::Start() {
  SessionServerOptions session_options;
  session_options.socket_path = socket_path();
  session_options.daemon_version = "test";
  sessions_ = SessionServer::Start(session_options).value();
  FileSystem* const files = options_.faulty_disk ? &files_ : PosixFileSystem();
  data_ = DataFolder::Open(files, data_folder_.path() + "/data").value();
  index_ = std::make_unique<FaultyIndex>(Index::Open(data_->IndexFolder()).value());
  MemoryTierOptions tier_options;
  tier_options.folder = memory_folder_.path();
  tier_options.budget_bytes = options_.budget_bytes;
  tier_options.ring_bytes = options_.ring_bytes;
  tier_options.clock = &clock_;
  tier_ = MemoryTier::Open(tier_options).value();
  ASSERT_TRUE(RecoverDataFolder(data_.get(), index_.get(), tier_->RecordedPartManifests()).ok());
  PersistOptions persist_options;
  persist_options.delay = options_.persist_delay;
  persister_ = std::make_unique<Persister>(data_.get(), index_.get(), persist_options);
  CheckpointTableOptions table_options;
  table_options.tier = tier_.get();
  table_options.persister = persister_.get();
  table_options.index = index_.get();
  table_options.folder = data_.get();
  table_options.clock = &clock_;
  table_options.quotas = Quotas(options_.quotas);
  table_options.runs_kept_min = options_.runs_kept_min;
  table_options.timer = false;
  table_ = CheckpointTable::Create(table_options).value();
  adopted_ = table_->Adopt();
}

void StagingRig::Crash() {
  if (table_ == nullptr) return;
  table_->Shutdown();
  sessions_ = nullptr;
  table_ = nullptr;
  persister_ = nullptr;
  tier_ = nullptr;
  index_ = nullptr;
  data_ = nullptr;
}

std::shared_ptr<Session> StagingRig::Find(const SessionClient& client) {
  return sessions_->Find(client.token());
}

PartClaim StagingRig::Claim(uint64_t step, uint32_t rank, uint32_t world_size,
                            const PartLayout& layout, const SessionClient* client) {
  PartClaim claim;
  claim.id = Id(step);
  claim.request_id = RequestId::Random();
  if (client != nullptr) claim.session = Find(*client);
  claim.transport = client != nullptr ? v1::TRANSPORT_SHARED_MEMORY : v1::TRANSPORT_STREAM;
  claim.rank = rank;
  claim.world_size = world_size;
  for (uint32_t i = 0; i < world_size; ++i) claim.share.push_back(i);
  claim.layout_digest = layout.digest();
  claim.join_deadline = absl::Minutes(10);
  claim.memory_wait = absl::Minutes(10);
  return claim;
}

absl::StatusOr<StagingRig::Opened> StagingRig::Open(
    PartClaim claim, const std::shared_ptr<const PartLayout>& layout) {
  Opened opened;
  CKPT_ASSIGN_OR_RETURN(opened.stream, table_->Begin(std::move(claim), [] {}));
  if (opened.stream->needs_layout()) {
    CKPT_RETURN_IF_ERROR(opened.stream->SetLayout(layout->serialized()));
  }
  CKPT_ASSIGN_OR_RETURN(opened.accepted, opened.stream->Open(Never));
  return opened;
}

absl::Status StagingRig::Save(PartClaim claim, const std::shared_ptr<const PartLayout>& layout,
                              uint32_t seed, SessionClient* client) {
  CKPT_ASSIGN_OR_RETURN(Opened opened, Open(std::move(claim), layout));
  const std::string bytes = Pattern(layout->part_bytes(), seed);
  if (client != nullptr && !bytes.empty()) {
    const SessionClient::File file = client->Granted(opened.accepted.file_id());
    std::memcpy(file.mapping, bytes.data(), bytes.size());
  } else if (!bytes.empty()) {
    CKPT_RETURN_IF_ERROR(opened.stream->Write(0, Received(bytes)));
  }
  return opened.stream->Finish(layout->part_bytes(), Never).status();
}

absl::Status StagingRig::WaitFor(const CheckpointId& id, v1::CheckpointState state) {
  return table_->Wait(id, state, absl::Now() + absl::Seconds(60), Never).status();
}

absl::StatusOr<std::string> StagingRig::ReadBack(const CheckpointId& id, uint32_t rank) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record,
                        index_->FindStep(id.run, id.step, id.incarnation));
  for (const v1::PartReference& reference : record.manifest.parts()) {
    if (reference.rank() != rank) continue;
    CKPT_ASSIGN_OR_RETURN(const v1::PartManifest manifest, data_->ReadPartManifest(reference));
    if (manifest.files().empty()) return std::string();
    const v1::DataFile& described = manifest.files(0);
    CKPT_ASSIGN_OR_RETURN(const FileId file_id, FileId::FromBytes(described.file_id(), "file"));
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> file, data_->OpenDataFile(file_id));
    std::string bytes(described.length() - described.header_length(), '\0');
    CKPT_RETURN_IF_ERROR(file->ReadAt(described.header_length(), bytes.data(), bytes.size()));
    return bytes;
  }
  return absl::NotFoundError("no such rank");
}

}  // namespace ckpt
