// What tests of the index, of persist and of the offline tool need: a folder that goes away, parts
// made up from a number, a source to persist them from, and a store (data folder, index, persister)
// that can be closed and opened again.
#ifndef CKPT_TESTS_PERSIST_PERSIST_FIXTURE_H_
#define CKPT_TESTS_PERSIST_PERSIST_FIXTURE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/index/index.h"
#include "server/persist/persister.h"
#include "server/storage/data_folder.h"
#include "tests/fakes/faulty_file_system.h"

namespace ckpt {

inline constexpr uint64_t kMiB = 1 << 20;

class TemporaryFolder {
 public:
  enum Place {
    kMemory,  // tmpfs: syncs cost nothing
    kDisk,    // the disk that holds the build: direct I/O and preallocation are real
  };
  explicit TemporaryFolder(Place place = kMemory);
  ~TemporaryFolder();  // with all that is in it
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A layout of PER_RANK U8 tensors "t0", "t1", ... of these sizes.
std::shared_ptr<const PartLayout> LayoutOfSizes(const std::vector<uint64_t>& sizes);
// Bytes that differ by seed and by place; the same for the same seed.
std::string PartBytes(const PartLayout& layout, uint32_t seed);
Incarnation IncarnationOf(uint8_t number);  // ordered as the numbers are
CheckpointId IdOf(const std::string& run, uint64_t step, uint8_t incarnation = 1);

class StringSource : public PartSource {
 public:
  explicit StringSource(std::string bytes) : bytes_(std::move(bytes)) {}
  absl::Status Read(uint64_t offset, void* out, uint64_t bytes) override;
  void Consumed(uint64_t offset) override;
  uint64_t consumed() const { return consumed_; }
  // Called before each read; an error ends the part.
  std::function<absl::Status(uint64_t offset)> before_read;

 private:
  const std::string bytes_;
  uint64_t read_to_ = 0;
  uint64_t consumed_ = 0;
};

// Data folder, index and persister on `path`; reopened as a restarted daemon would.
class Store {
 public:
  // `files` null: the real file system. SmallWrites: 1 MiB each, so that little data makes many.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& path,
                                                     FileSystem* files = nullptr,
                                                     PersistOptions options = SmallWrites(),
                                                     IndexEnvironment* environment = nullptr);
  static PersistOptions SmallWrites();
  ~Store();

  DataFolder& folder() { return *folder_; }
  Index& index() { return *index_; }
  Persister& persister() { return *persister_; }

  // Reserve, persist, wait.
  absl::StatusOr<DurablePart> Persist(const PartToPersist& part);
  // A whole checkpoint of `ranks` parts with this layout; part r's bytes are PartBytes(seed + r).
  absl::StatusOr<CheckpointRecord> Save(const CheckpointId& id, CheckpointUid uid,
                                        const std::vector<uint64_t>& sizes, uint32_t ranks = 1,
                                        uint32_t seed = 1);
  // What that checkpoint holds, read back from disk and compared; and every hash verified.
  absl::Status Check(CheckpointUid uid, uint32_t seed = 1);
  // Names of all files in objects/ and checkpoints/, sorted.
  std::vector<std::string> FilesOnDisk();

 private:
  Store() = default;
  std::unique_ptr<DataFolder> folder_;
  std::unique_ptr<Index> index_;
  std::unique_ptr<Persister> persister_;
};

PartToPersist MakePart(const CheckpointId& id, CheckpointUid uid,
                       std::shared_ptr<const PartLayout> layout, uint32_t seed, uint32_t rank = 0,
                       uint32_t world_size = 1);

// Inverts one byte of a file, or cuts it.
void FlipByte(const std::string& path, uint64_t offset);
void CutFile(const std::string& path, uint64_t bytes);

}  // namespace ckpt

#endif  // CKPT_TESTS_PERSIST_PERSIST_FIXTURE_H_
