#include "tests/benchmark/raw_disk.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"

namespace ckpt::bench {
namespace {

constexpr uint64_t kPage = 4096;

absl::Status Failed(const std::string& what) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// Closes with the scope.
class File {
 public:
  static absl::StatusOr<File> Open(const std::string& path, int flags) {
    const int descriptor = open(path.c_str(), flags | O_CLOEXEC, 0600);
    if (descriptor < 0) return Failed(absl::StrCat("open ", path));
    return File(descriptor);
  }
  File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  File& operator=(File&&) = delete;
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  int descriptor() const { return descriptor_; }

 private:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

// Calls work(offset, bytes) for the blocks of [0, total) on several threads; false stops them all.
bool ForEachBlock(uint64_t total, const RawSetting& setting,
                  absl::FunctionRef<bool(uint64_t offset, uint64_t bytes)> work) {
  std::atomic<uint64_t> next{0};
  std::atomic<bool> good{true};
  auto loop = [&] {
    while (good.load(std::memory_order_relaxed)) {
      const uint64_t offset = next.fetch_add(setting.block_bytes, std::memory_order_relaxed);
      if (offset >= total) return;
      if (!work(offset, std::min(setting.block_bytes, total - offset))) good = false;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < setting.threads; ++i) threads.emplace_back(loop);
  loop();
  for (std::thread& thread : threads) thread.join();
  return good;
}

// Two rounds over all settings, so that one slow moment does not decide.
absl::StatusOr<RawSetting> Calibrate(
    const std::vector<RawSetting>& settings,
    absl::FunctionRef<absl::StatusOr<double>(const RawSetting&)> measure) {
  // Medians: one lucky round must not make a weak baseline.
  std::vector<std::vector<double>> seconds(settings.size());
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < settings.size(); ++i) {
      CKPT_RETURN_IF_ERROR(CheckInterrupt());
      CKPT_ASSIGN_OR_RETURN(const double once, measure(settings[i]));
      seconds[i].push_back(once);
    }
  }
  const auto best =
      std::min_element(seconds.begin(), seconds.end(), [](const auto& one, const auto& other) {
        return Median(one) < Median(other);
      });
  return settings[static_cast<size_t>(best - seconds.begin())];
}

absl::Status WriteSmallFile(const std::string& path, const std::byte* data) {
  CKPT_ASSIGN_OR_RETURN(const File file, File::Open(path, O_WRONLY | O_CREAT | O_EXCL));
  if (pwrite(file.descriptor(), data, kPage, 0) != static_cast<ssize_t>(kPage) ||
      fdatasync(file.descriptor()) != 0) {
    return Failed("write a small file");
  }
  return absl::OkStatus();
}

absl::Status WriteLargeFile(const std::string& path, absl::Span<const std::byte> data,
                            uint64_t bytes, const RawSetting& setting) {
  CKPT_ASSIGN_OR_RETURN(const File file, File::Open(path, O_WRONLY | O_CREAT | O_EXCL |
                                                              (setting.direct ? O_DIRECT : 0)));
  if (fallocate(file.descriptor(), 0, 0, static_cast<off_t>(bytes)) != 0)
    return Failed("fallocate");
  const uint64_t places = data.size() / setting.block_bytes;
  if (places == 0) return absl::InvalidArgumentError("less data than a block");
  const bool good = ForEachBlock(bytes, setting, [&](uint64_t offset, uint64_t count) {
    const uint64_t from = offset / setting.block_bytes % places * setting.block_bytes;
    return pwrite(file.descriptor(), data.data() + from, count, static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(count);
  });
  if (!good) return Failed("raw write");
  return fdatasync(file.descriptor()) == 0 ? absl::OkStatus() : Failed("fdatasync");
}

}  // namespace

std::string RawSetting::ToString() const {
  return absl::StrCat(PrintByteSize(block_bytes), " blocks, ", threads,
                      threads == 1 ? " thread, " : " threads, ",
                      direct ? "O_DIRECT" : "page cache");
}

absl::StatusOr<double> RawWrite(const std::string& folder, absl::Span<const std::byte> data,
                                uint64_t bytes, const RawSetting& setting) {
  const std::string names[] = {absl::StrCat(folder, "/raw-data"),
                               absl::StrCat(folder, "/raw-small-1"),
                               absl::StrCat(folder, "/raw-small-2")};
  const double begin = Now();
  absl::Status status = WriteLargeFile(names[0], data, bytes, setting);
  for (int i = 1; i <= 2; ++i) status.Update(WriteSmallFile(names[i], data.data()));
  const double seconds = Now() - begin;
  for (const std::string& name : names) unlink(name.c_str());
  if (!status.ok()) return status;
  return seconds;
}

absl::StatusOr<RawSetting> CalibrateWrite(const std::string& folder,
                                          absl::Span<const std::byte> data, uint64_t bytes) {
  std::vector<RawSetting> settings;
  for (const uint64_t mib : {2, 8, 16}) {
    for (const int threads : {1, 2, 4}) settings.push_back({mib << 20, threads, true});
  }
  return Calibrate(
      settings, [&](const RawSetting& setting) { return RawWrite(folder, data, bytes, setting); });
}

absl::Status DropFromCache(const std::vector<std::string>& files) {
  uint64_t resident = 0;
  for (const std::string& path : files) {
    CKPT_ASSIGN_OR_RETURN(const File file, File::Open(path, O_RDONLY));
    struct stat info = {};
    if (fstat(file.descriptor(), &info) != 0) return Failed("fstat");
    if (info.st_size == 0) continue;
    // Pages that a reader has just let go of may take a second call.
    for (int i = 0; i < 3; ++i) posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
    const auto length = static_cast<size_t>(info.st_size);
    void* mapping = mmap(nullptr, length, PROT_READ, MAP_SHARED, file.descriptor(), 0);
    if (mapping == MAP_FAILED) return Failed("mmap");
    std::vector<unsigned char> pages((length + kPage - 1) / kPage);
    if (mincore(mapping, length, pages.data()) == 0) {
      for (const unsigned char page : pages) resident += page & 1;
    }
    munmap(mapping, length);
  }
  if (resident == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(resident, " pages stayed in the page cache"));
}

absl::StatusOr<double> RawRead(const std::vector<std::string>& files, std::byte* out,
                               uint64_t out_bytes, const RawSetting& setting, bool add_up) {
  static std::atomic<uint64_t> sum;  // so that no compiler leaves the adding out
  const double begin = Now();
  for (const std::string& path : files) {
    CKPT_ASSIGN_OR_RETURN(const File file,
                          File::Open(path, O_RDONLY | (setting.direct ? O_DIRECT : 0)));
    struct stat info = {};
    if (fstat(file.descriptor(), &info) != 0) return Failed("fstat");
    const auto length = static_cast<uint64_t>(info.st_size);
    const uint64_t places = std::max<uint64_t>(1, out_bytes / setting.block_bytes);
    const bool good = ForEachBlock(length, setting, [&](uint64_t offset, uint64_t count) {
      // O_DIRECT reads whole pages; the last one ends where the file does.
      const uint64_t asked = (count + kPage - 1) / kPage * kPage;
      std::byte* const to = out + offset / setting.block_bytes % places * setting.block_bytes;
      uint64_t done = 0;
      while (done < count) {
        const ssize_t got =
            pread(file.descriptor(), to + done, asked - done, static_cast<off_t>(offset + done));
        if (got <= 0) return false;
        done += static_cast<uint64_t>(got);
      }
      if (add_up) {
        const auto* words = reinterpret_cast<const uint64_t*>(to);
        sum += std::accumulate(words, words + count / sizeof(uint64_t), uint64_t{0});
      }
      return true;
    });
    if (!good) return Failed(absl::StrCat("raw read of ", path));
  }
  return Now() - begin;
}

absl::StatusOr<RawSetting> CalibrateRead(const std::vector<std::string>& files, std::byte* out,
                                         uint64_t out_bytes) {
  std::vector<RawSetting> settings;
  for (const bool direct : {true, false}) {
    for (const uint64_t mib : {4, 16}) {
      for (const int threads : {1, 2, 4}) {
        if ((mib << 20) <= out_bytes) settings.push_back({mib << 20, threads, direct});
      }
    }
  }
  return Calibrate(settings, [&](const RawSetting& setting) -> absl::StatusOr<double> {
    CKPT_RETURN_IF_ERROR(DropFromCache(files));
    return RawRead(files, out, out_bytes, setting);
  });
}

absl::StatusOr<double> RawReadPage(const std::string& path, uint64_t offset) {
  CKPT_ASSIGN_OR_RETURN(const File file, File::Open(path, O_RDONLY | O_DIRECT));
  alignas(kPage) char page[kPage] = {};  // touched
  const double begin = Now();
  // The file's last page may be short.
  if (pread(file.descriptor(), page, kPage, static_cast<off_t>(offset / kPage * kPage)) <= 0) {
    return Failed(absl::StrCat("raw read of ", path));
  }
  return Now() - begin;
}

absl::StatusOr<std::vector<double>> AppendLatencies(const std::string& folder, int count) {
  const std::string path = absl::StrCat(folder, "/raw-append");
  CKPT_ASSIGN_OR_RETURN(const File file, File::Open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND));
  unlink(path.c_str());
  const std::vector<char> page(kPage, 'x');
  std::vector<double> seconds;
  for (int i = 0; i < count; ++i) {
    const double begin = Now();
    if (write(file.descriptor(), page.data(), page.size()) != static_cast<ssize_t>(kPage) ||
        fdatasync(file.descriptor()) != 0) {
      return Failed("append");
    }
    seconds.push_back(Now() - begin);
  }
  return seconds;
}

}  // namespace ckpt::bench
