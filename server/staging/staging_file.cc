#include "server/staging/staging_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/byte_size.h"
#include "common/copy_kernel.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace ckpt {
namespace {

constexpr uint64_t kGranuleBytes = 2 << 20;  // also the size of a huge page

absl::Status Failed(absl::string_view what, absl::string_view path, int error) {
  const std::string text = absl::StrCat(what, " ", path, ": ", std::strerror(error));
  if (error == ENOENT) return absl::NotFoundError(text);
  if (error == ENOSPC || error == EDQUOT || error == ENOMEM) {
    return absl::ResourceExhaustedError(text);
  }
  return absl::InternalError(text);
}

std::string ReadLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The mount options of the file system that `folder` lies on, from mountinfo by its device.
std::string MountOptions(const std::string& folder) {
  struct stat there {};
  if (stat(folder.c_str(), &there) != 0) return "";
  const std::string device = absl::StrCat(major(there.st_dev), ":", minor(there.st_dev));
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words.size() > 3 && words[2] == device) return words.back();
  }
  return "";
}

// Touches every page through a mapping that asks for huge pages. Nobody else has the file yet.
void PopulateHuge(int descriptor, uint64_t bytes) {
  void* mapping = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (mapping == MAP_FAILED) return;
  if (madvise(mapping, bytes, MADV_HUGEPAGE) == 0) {
    (void)madvise(mapping, bytes, MADV_POPULATE_WRITE);  // what it leaves out, fallocate makes
  }
  munmap(mapping, bytes);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.release();
  }
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

HugePages DetectHugePages(const std::string& folder) {
  const std::string host = ReadLine("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  if (absl::StrContains(host, "[deny]")) return HugePages::kNone;
  if (absl::StrContains(host, "[force]")) return HugePages::kAlways;
  const std::string options = MountOptions(folder);
  if (absl::StrContains(options, "huge=always") || absl::StrContains(options, "huge=within_size")) {
    return HugePages::kAlways;
  }
  if (absl::StrContains(options, "huge=advise")) return HugePages::kAdvise;
  return HugePages::kNone;
}

absl::StatusOr<std::shared_ptr<StagingFile>> StagingFile::Create(const std::string& path,
                                                                 uint64_t bytes,
                                                                 HugePages huge_pages) {
  Descriptor descriptor(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (descriptor.get() < 0) return Failed("cannot make the staging file", path, errno);
  int error = 0;
  if (ftruncate(descriptor.get(), static_cast<off_t>(bytes)) != 0) error = errno;
  if (error == 0 && huge_pages == HugePages::kAdvise) PopulateHuge(descriptor.get(), bytes);
  while (error == 0 && fallocate(descriptor.get(), 0, 0, static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) error = errno;
  }
  if (error != 0) {
    unlink(path.c_str());
    return Failed(absl::StrCat("cannot allocate ", PrintByteSize(bytes), " of staging memory at"),
                  path, error);
  }
  return std::shared_ptr<StagingFile>(
      new StagingFile(FileId::Random(), bytes, std::move(descriptor), /*only_ours=*/true));
}

absl::StatusOr<std::shared_ptr<StagingFile>> StagingFile::OpenExisting(const std::string& path) {
  Descriptor descriptor(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (descriptor.get() < 0) return Failed("cannot open the staging file", path, errno);
  struct stat there {};
  if (fstat(descriptor.get(), &there) != 0) {
    return Failed("cannot look at the staging file", path, errno);
  }
  return std::shared_ptr<StagingFile>(
      new StagingFile(FileId::Random(), static_cast<uint64_t>(there.st_size), std::move(descriptor),
                      /*only_ours=*/false));
}

absl::Status StagingFile::Read(uint64_t offset, void* out, uint64_t bytes) const {
  uint64_t done = 0;
  while (done < bytes) {
    const ssize_t got = pread(descriptor_.get(), static_cast<char*>(out) + done, bytes - done,
                              static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed("cannot read staging file", id_.hex(), errno);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat("staging file ", id_.hex(), " ends at ",
                                              offset + done, ", before ", offset + bytes,
                                              ": the process that wrote it has truncated it"));
    }
    done += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

StagingFile::~StagingFile() {
  MutexLock lock(mapping_mutex_);
  Unmap();
}

void StagingFile::Unmap() {
  if (mapping_ != nullptr) munmap(mapping_, bytes_);
  mapping_ = nullptr;
  present_.clear();
}

bool StagingFile::mapped() const {
  MutexLock lock(mapping_mutex_);
  return mapping_ != nullptr;
}

char* StagingFile::Present(uint64_t offset, uint64_t bytes) {
  if (!may_map_ || bytes == 0 || offset > bytes_ || bytes > bytes_ - offset) return nullptr;
  if (mapping_ == nullptr) {
    void* mapping = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_.get(), 0);
    if (mapping == MAP_FAILED) {
      may_map_ = false;
      return nullptr;
    }
    madvise(mapping, bytes_, MADV_DONTFORK);
    madvise(mapping, bytes_, MADV_DONTDUMP);
    madvise(mapping, bytes_, MADV_HUGEPAGE);  // best effort: most hosts give tmpfs none
    mapping_ = static_cast<char*>(mapping);
    present_.assign((bytes_ + kGranuleBytes - 1) / kGranuleBytes, false);
  }
  for (uint64_t granule = offset / kGranuleBytes; granule <= (offset + bytes - 1) / kGranuleBytes;
       ++granule) {
    if (present_[granule]) continue;
    const uint64_t begin = granule * kGranuleBytes;
    // A page fault for each page would cost several times the copy. Where the kernel cannot do it
    // (before 5.14) the faults are taken.
    while (madvise(mapping_ + begin, std::min(kGranuleBytes, bytes_ - begin),
                   MADV_POPULATE_WRITE) != 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      if (errno == EINVAL) break;
      may_map_ = false;
      Unmap();
      return nullptr;
    }
    present_[granule] = true;
  }
  return mapping_;
}

absl::Status StagingFile::Write(uint64_t offset, absl::string_view bytes) {
  {
    MutexLock lock(mapping_mutex_);
    if (char* mapping = Present(offset, bytes.size()); mapping != nullptr) {
      CopyStreaming(reinterpret_cast<std::byte*>(mapping + offset),
                    reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
      CopyFence();
      return absl::OkStatus();
    }
  }
  while (!bytes.empty()) {
    const ssize_t put =
        pwrite(descriptor_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return Failed("cannot write staging file", id_.hex(), errno);
    bytes.remove_prefix(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return absl::OkStatus();
}

bool StagingFile::Intact() const {
  struct stat there {};
  if (fstat(descriptor_.get(), &there) != 0) return false;
  const uint64_t allocated = static_cast<uint64_t>(there.st_blocks) * 512;
  return static_cast<uint64_t>(there.st_size) == bytes_ && allocated >= bytes_ &&
         allocated - bytes_ < (uint64_t{2} << 20);
}

bool StagingFile::OnlyOurs() const {
  if (fcntl(descriptor_.get(), F_SETLEASE, F_WRLCK) == 0) {
    fcntl(descriptor_.get(), F_SETLEASE, F_UNLCK);
    return true;
  }
  // Anything but "others have it open" means that this file system has no leases: we cannot know,
  // and an answer that is always no would fill the budget for ever.
  return errno != EAGAIN && errno != EBUSY;
}

absl::StatusOr<Descriptor> StagingFile::Reopen(bool read_only) {
  {
    MutexLock lock(mapping_mutex_);
    may_map_ = false;
    Unmap();
  }
  const std::string path = absl::StrCat("/proc/self/fd/", descriptor_.get());
  Descriptor descriptor(open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (descriptor.get() < 0) return Failed("cannot reopen staging file", id_.hex(), errno);
  return descriptor;
}

}  // namespace ckpt
