#include "tests/persist/persist_fixture.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/persist/verify_part.h"

namespace ckpt {
namespace {

std::vector<uint32_t> RanksBelow(uint32_t count) {
  std::vector<uint32_t> ranks(count);
  for (uint32_t i = 0; i < count; ++i) ranks[i] = i;
  return ranks;
}

}  // namespace

TemporaryFolder::TemporaryFolder(Place place) {
  const std::string parent =
      place == kDisk ? std::filesystem::current_path().string() : std::string("/dev/shm");
  std::string name = absl::StrCat(parent, "/ckpt-test-XXXXXX");
  if (mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::shared_ptr<const PartLayout> LayoutOfSizes(const std::vector<uint64_t>& sizes) {
  v1::Layout layout;
  for (size_t i = 0; i < sizes.size(); ++i) {
    v1::Leaf* leaf = layout.add_leaves();
    leaf->mutable_key()->add_segments()->set_name(absl::StrCat("t", i));
    leaf->set_kind(v1::LEAF_KIND_TENSOR);
    leaf->set_placement(v1::PLACEMENT_PER_RANK);
    leaf->set_dtype(v1::DTYPE_U8);
    leaf->add_shape(sizes[i]);
    v1::Shard* shard = layout.add_shards();
    shard->set_leaf(static_cast<uint32_t>(i));
    shard->mutable_box()->add_offset(0);
    shard->mutable_box()->add_extent(sizes[i]);
  }
  auto made = PartLayout::FromProto(std::move(layout));
  if (!made.ok()) std::abort();
  return *made;
}

std::string PartBytes(const PartLayout& layout, uint32_t seed) {
  std::string bytes(layout.part_bytes(), '\0');
  uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
  for (size_t i = 0; i < bytes.size(); i += 8) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const uint64_t word = state ^ (state >> 29);
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, bytes.size() - i));
  }
  return bytes;
}

Incarnation IncarnationOf(uint8_t number) {
  std::string bytes(16, '\1');
  bytes[0] = static_cast<char>(number);
  return *Incarnation::FromBytes(bytes, "incarnation");
}

CheckpointId IdOf(const std::string& run, uint64_t step, uint8_t incarnation) {
  return {.run = run, .step = step, .incarnation = IncarnationOf(incarnation)};
}

absl::Status StringSource::Read(uint64_t offset, void* out, uint64_t bytes) {
  if (before_read) CKPT_RETURN_IF_ERROR(before_read(offset));
  if (offset < read_to_) return absl::InternalError("a byte is read twice");
  if (offset + bytes > bytes_.size()) return absl::DataLossError("staging ends too early");
  read_to_ = offset + bytes;
  std::memcpy(out, bytes_.data() + offset, bytes);
  return absl::OkStatus();
}

void StringSource::Consumed(uint64_t offset) { consumed_ = std::max(consumed_, offset); }

PersistOptions Store::SmallWrites() {
  PersistOptions options;
  options.write_bytes = 1 << 20;
  options.buffer_bytes_max = 8 << 20;
  return options;
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path, FileSystem* files,
                                                   PersistOptions options,
                                                   IndexEnvironment* environment) {
  std::unique_ptr<Store> store(new Store);
  CKPT_ASSIGN_OR_RETURN(store->folder_,
                        DataFolder::Open(files != nullptr ? files : PosixFileSystem(), path));
  CKPT_ASSIGN_OR_RETURN(store->index_, Index::Open(store->folder_->IndexFolder(), environment));
  store->persister_ =
      std::make_unique<Persister>(store->folder_.get(), store->index_.get(), options);
  return store;
}

Store::~Store() { persister_.reset(); }

absl::StatusOr<DurablePart> Store::Persist(const PartToPersist& part) {
  CKPT_RETURN_IF_ERROR(persister_->Reserve(part.layout->part_bytes()));
  auto result = std::make_shared<std::promise<absl::StatusOr<DurablePart>>>();
  std::future<absl::StatusOr<DurablePart>> durable = result->get_future();
  persister_->Persist(
      part, [result](absl::StatusOr<DurablePart> done) { result->set_value(std::move(done)); });
  return durable.get();
}

absl::StatusOr<CheckpointRecord> Store::Save(const CheckpointId& id, CheckpointUid uid,
                                             const std::vector<uint64_t>& sizes, uint32_t ranks,
                                             uint32_t seed) {
  const std::shared_ptr<const PartLayout> layout = LayoutOfSizes(sizes);
  std::vector<DurablePart> parts;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    CKPT_ASSIGN_OR_RETURN(DurablePart part,
                          Persist(MakePart(id, uid, layout, seed + rank, rank, ranks)));
    parts.push_back(std::move(part));
  }
  return persister_->Commit(id, uid, ranks, RanksBelow(ranks), parts);
}

absl::Status Store::Check(CheckpointUid uid, uint32_t seed) {
  CKPT_ASSIGN_OR_RETURN(const v1::CheckpointManifest manifest,
                        folder_->ReadCheckpointManifest(uid));
  for (const v1::PartReference& reference : manifest.parts()) {
    CKPT_ASSIGN_OR_RETURN(const v1::PartManifest part, folder_->ReadPartManifest(reference));
    CKPT_ASSIGN_OR_RETURN(const auto layout, PartLayout::FromProto(part.layout()));
    std::vector<std::string> damage;
    CKPT_RETURN_IF_ERROR(
        VerifyPart(folder_.get(), part, *layout,
                   {.damage = [&](const std::string& line) { damage.push_back(line); },
                    .progress = [](uint64_t) { return true; }}));
    if (!damage.empty()) return absl::DataLossError(damage.front());
    const std::string expected = PartBytes(*layout, seed + reference.rank());
    for (int i = 0; i < part.files_size(); ++i) {
      const PartLayout::FilePlace& place = layout->files()[static_cast<size_t>(i)];
      CKPT_ASSIGN_OR_RETURN(const FileId id, FileId::FromBytes(part.files(i).file_id(), "id"));
      CKPT_ASSIGN_OR_RETURN(auto file, folder_->OpenDataFile(id));
      std::string data(place.length, '\0');
      CKPT_RETURN_IF_ERROR(file->ReadAt(part.files(i).header_length(), data.data(), data.size()));
      if (data != expected.substr(place.part_offset, place.length)) {
        return absl::DataLossError("other bytes than were saved");
      }
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> Store::FilesOnDisk() {
  std::vector<std::string> names;
  for (const std::string& folder : {folder_->ObjectsFolder(), folder_->CheckpointsFolder()}) {
    auto listed = PosixFileSystem()->List(folder);
    if (listed.ok()) names.insert(names.end(), listed->begin(), listed->end());
  }
  std::sort(names.begin(), names.end());
  return names;
}

PartToPersist MakePart(const CheckpointId& id, CheckpointUid uid,
                       std::shared_ptr<const PartLayout> layout, uint32_t seed, uint32_t rank,
                       uint32_t world_size) {
  PartToPersist part;
  part.id = id;
  part.uid = uid;
  part.rank = rank;
  part.world_size = world_size;
  part.share = RanksBelow(world_size);
  part.source = std::make_shared<StringSource>(PartBytes(*layout, seed));
  part.layout = std::move(layout);
  return part;
}

void FlipByte(const std::string& path, uint64_t offset) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  char byte = 0;
  if (pread(descriptor, &byte, 1, static_cast<off_t>(offset)) != 1) std::abort();
  byte = static_cast<char>(~byte);
  if (pwrite(descriptor, &byte, 1, static_cast<off_t>(offset)) != 1) std::abort();
  close(descriptor);
}

void CutFile(const std::string& path, uint64_t bytes) {
  if (truncate(path.c_str(), static_cast<off_t>(bytes)) != 0) std::abort();
}

}  // namespace ckpt
