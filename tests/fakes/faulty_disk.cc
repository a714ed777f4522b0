#include "tests/fakes/faulty_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr char kFolder[] = "folder:";

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

uint64_t SizeOf(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

bool IsFolder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

}  // namespace

uint64_t FaultyDisk::InodeOf(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

void FaultyDisk::FailOn(Call call, std::string path_part, int nth, absl::Status status,
                        int times) {
  MutexLock lock(mutex_);
  rules_.push_back({call, std::move(path_part), nth, times, std::move(status)});
}

void FaultyDisk::FailAt(uint64_t number, absl::Status status) {
  MutexLock lock(mutex_);
  fail_at_ = number;
  fail_status_ = std::move(status);
}

void FaultyDisk::KeepOrderIn(std::string path_part) {
  MutexLock lock(mutex_);
  ordered_ = std::move(path_part);
}

void FaultyDisk::KeepPrefixesOf(std::string path_part) {
  MutexLock lock(mutex_);
  prefixed_ = std::move(path_part);
}

void FaultyDisk::CrashAt(uint64_t number, Moment moment) {
  MutexLock lock(mutex_);
  crash_at_ = number;
  moment_ = moment;
}

bool FaultyDisk::crashed() {
  MutexLock lock(mutex_);
  return crashed_;
}

uint64_t FaultyDisk::operations() {
  MutexLock lock(mutex_);
  return operations_;
}

std::optional<FaultyDisk::CallMade> FaultyDisk::failed() {
  MutexLock lock(mutex_);
  return failed_;
}

int FaultyDisk::calls(Call call, const std::string& path_part) {
  MutexLock lock(mutex_);
  return static_cast<int>(std::count_if(made_.begin(), made_.end(), [&](const CallMade& made) {
    return made.call == call && absl::StrContains(made.path, path_part);
  }));
}

void FaultyDisk::Restart() {
  MutexLock lock(mutex_);
  rules_.clear();
  crash_at_ = fail_at_ = 0;
  crashed_ = false;
}

absl::Status FaultyDisk::Do(Call call, const std::string& path, Real real) {
  bool last = false;
  {
    MutexLock lock(mutex_);
    made_.push_back({call, path});
    if (call != Call::kRead && ++operations_ == crash_at_) {
      if (moment_ == Moment::kBefore) crashed_ = true;
      last = true;
    }
    if (crashed_) return absl::InternalError("crashed");
    if (call != Call::kRead && operations_ == fail_at_) {
      failed_ = {call, path};
      return fail_status_;
    }
    for (Rule& rule : rules_) {
      if (rule.call != call || !absl::StrContains(path, rule.path_part)) continue;
      ++rule.seen;
      if (rule.seen >= rule.nth && rule.seen < rule.nth + rule.times) return rule.status;
    }
  }
  absl::Status done = real();
  if (!last) return done;
  MutexLock lock(mutex_);
  crashed_ = true;
  return absl::InternalError("crashed");
}

// `real` is done and remembered as one, so that what is remembered is what is on disk.
absl::Status FaultyDisk::DoChange(Call call, const std::string& path, Real real) {
  MutexLock lock(names_mutex_);
  return Do(call, path, real);
}

FaultyDisk::Name FaultyDisk::NameOf(const std::string& path) {
  const std::string folder = FolderOf(path);
  const uint64_t inode = InodeOf(folder);
  folders_[inode] = folder;
  return {inode, path.substr(path.rfind('/') + 1)};
}

FaultyDisk::Value FaultyDisk::ValueOf(const std::string& path) {
  const uint64_t inode = InodeOf(path);
  if (inode == 0) return "";
  if (IsFolder(path)) {
    folders_[inode] = path;
    return absl::StrCat(kFolder, inode);
  }
  const File found{.link = "", .synced_bytes = SizeOf(path), .made_as = path};
  File& file = files_.try_emplace(inode, found).first->second;
  if (file.link.empty()) {
    do {  // names of a disk before us may stand there
      file.link = absl::StrCat(shadow_, "/", ++kept_);
    } while (link(path.c_str(), file.link.c_str()) != 0 && errno == EEXIST);
    if (InodeOf(file.link) != inode) std::abort();
  }
  return file.link;
}

// What this name stands for before its first change.
void FaultyDisk::KeepOld(const std::string& path) {
  const Name name = NameOf(path);
  if (!durable_.contains(name)) durable_[name] = ValueOf(path);
}

absl::Status FaultyDisk::Create(const std::string& path, Real create) {
  return DoChange(Call::kCreate, path, [&]() -> absl::Status {
    {
      MutexLock lock(mutex_);
      KeepOld(path);
    }
    CKPT_RETURN_IF_ERROR(create());
    MutexLock lock(mutex_);
    files_[InodeOf(path)].made_as = path;
    changes_.push_back({{NameOf(path), ValueOf(path)}});
    return absl::OkStatus();
  });
}

absl::Status FaultyDisk::Write(const std::string& path, Real write) {
  return Do(Call::kWrite, path, write);
}

absl::Status FaultyDisk::Truncate(const std::string& path, Real truncate) {
  return Do(Call::kTruncate, path, truncate);
}

absl::Status FaultyDisk::Sync(const std::string& path, uint64_t inode, Real sync) {
  const absl::Status done = Do(Call::kSync, path, [&]() -> absl::Status {
    std::string file_link;
    {
      MutexLock lock(mutex_);
      if (auto found = files_.find(inode); found != files_.end()) file_link = found->second.link;
    }
    const uint64_t bytes = SizeOf(file_link.empty() ? path : file_link);
    CKPT_RETURN_IF_ERROR(sync());
    MutexLock lock(mutex_);
    if (auto found = files_.find(inode); found != files_.end() && !found->second.lost) {
      found->second.synced_bytes = bytes;
    }
    return absl::OkStatus();
  });
  MutexLock lock(mutex_);
  if (auto found = files_.find(inode); !done.ok() && !crashed_ && found != files_.end()) {
    found->second.lost = true;
  }
  return done;
}

absl::Status FaultyDisk::Rename(const std::string& from, const std::string& to, Real rename) {
  return DoChange(Call::kRename, from, [&]() -> absl::Status {
    Value moved;
    {
      MutexLock lock(mutex_);
      KeepOld(from);
      KeepOld(to);
      moved = ValueOf(from);
    }
    CKPT_RETURN_IF_ERROR(rename());
    MutexLock lock(mutex_);
    if (IsFolder(to)) folders_[InodeOf(to)] = to;
    changes_.push_back({{NameOf(from), ""}, {NameOf(to), moved}});
    return absl::OkStatus();
  });
}

absl::Status FaultyDisk::Unlink(const std::string& path, Real unlink) {
  return DoChange(Call::kUnlink, path, [&]() -> absl::Status {
    {
      MutexLock lock(mutex_);
      KeepOld(path);
    }
    CKPT_RETURN_IF_ERROR(unlink());
    MutexLock lock(mutex_);
    changes_.push_back({{NameOf(path), ""}});
    return absl::OkStatus();
  });
}

absl::Status FaultyDisk::MakeFolder(const std::string& path, Real make) {
  if (IsFolder(path)) return Read(path, make);
  return DoChange(Call::kMakeFolder, path, [&]() -> absl::Status {
    {
      MutexLock lock(mutex_);
      KeepOld(path);
    }
    CKPT_RETURN_IF_ERROR(make());
    MutexLock lock(mutex_);
    changes_.push_back({{NameOf(path), ValueOf(path)}});
    return absl::OkStatus();
  });
}

absl::Status FaultyDisk::RemoveFolder(const std::string& path) {
  return DoChange(Call::kRemoveFolder, path, [&]() -> absl::Status {
    MutexLock lock(mutex_);
    std::error_code ignored;
    if (!IsFolder(path)) return absl::NotFoundError(absl::StrCat("no folder: ", path));
    if (!std::filesystem::is_empty(path, ignored)) {
      return absl::AlreadyExistsError(absl::StrCat("not empty: ", path));
    }
    KeepOld(path);
    const uint64_t inode = InodeOf(path);
    folders_[inode] = absl::StrCat(shadow_, "/", ++kept_);
    std::filesystem::rename(path, folders_[inode]);
    changes_.push_back({{NameOf(path), ""}});
    return absl::OkStatus();
  });
}

absl::Status FaultyDisk::SyncFolder(const std::string& path, Real sync) {
  const auto settle = [&](bool durable) {
    MutexLock lock(mutex_);
    if (crashed_ && !durable) return;  // what was on its way may have come through
    const uint64_t folder = InodeOf(path);
    for (Change& change : changes_) {
      for (auto& [name, value] : change) {
        if (durable && name.first == folder) durable_[name] = value;
      }
      std::erase_if(change, [&](const auto& set) { return set.first.first == folder; });
    }
    std::erase_if(changes_, [](const Change& change) { return change.empty(); });
  };
  const absl::Status done = DoChange(Call::kSyncFolder, path, [&]() -> absl::Status {
    CKPT_RETURN_IF_ERROR(sync());
    settle(/*durable=*/true);
    return absl::OkStatus();
  });
  if (!done.ok()) settle(/*durable=*/false);
  return done;
}

absl::Status FaultyDisk::Read(const std::string& path, Real read) {
  return Do(Call::kRead, path, read);
}

void FaultyDisk::PowerLoss() { Lose(nullptr); }

void FaultyDisk::PowerLoss(uint64_t seed) {
  std::mt19937_64 random(seed);
  Lose(&random);
}

// What the disk holds of each name that changed since its folder was synced.
std::map<FaultyDisk::Name, FaultyDisk::Value> FaultyDisk::Survivors(std::mt19937_64* random) {
  std::map<Name, size_t> seen;  // so many of its changes, the oldest ones, survive
  std::map<Name, size_t> count;
  for (const Change& change : changes_) {
    for (const auto& set : change) ++count[set.first];
  }
  for (const auto& [name, changes] : count) {
    seen[name] = random == nullptr ? 0 : (*random)() % (changes + 1);
  }
  std::map<uint64_t, std::vector<Name>> in_order;  // of each folder that keeps it
  for (const Change& change : changes_) {
    for (const auto& [name, value] : change) {
      if (!ordered_.empty() && absl::StrContains(folders_[name.first], ordered_)) {
        in_order[name.first].push_back(name);
        seen[name] = 0;
      }
    }
  }
  for (const auto& [folder, names] : in_order) {
    if (random == nullptr) break;
    const size_t survive = (*random)() % (names.size() + 1);
    for (size_t i = 0; i < survive; ++i) ++seen[names[i]];
  }
  for (bool whole = false; !whole;) {  // a change that is seen by one of its names is seen by all
    whole = true;
    std::map<Name, size_t> before;
    for (const Change& change : changes_) {
      const bool survives = std::any_of(change.begin(), change.end(), [&](const auto& set) {
        return seen[set.first] > before[set.first];
      });
      for (const auto& set : change) {
        size_t& upto = before[set.first];
        ++upto;
        if (!survives || seen[set.first] >= upto) continue;
        seen[set.first] = upto;
        whole = false;
      }
    }
  }
  std::map<Name, Value> values;
  std::map<Name, size_t> before;
  for (const auto& [name, changes] : count) values[name] = durable_[name];
  for (const Change& change : changes_) {
    for (const auto& [name, value] : change) {
      if (before[name]++ < seen[name]) values[name] = value;
    }
  }
  return values;
}

void FaultyDisk::LoseNames(std::mt19937_64* random) {
  const std::map<Name, Value> values = Survivors(random);
  const auto path_of = [&](const Name& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return absl::StrCat(folders_[name.first], "/", name.second);
  };
  for (const auto& [name, value] : values) {  // folders aside first: what is in them goes with them
    const std::string path = path_of(name);
    if (!IsFolder(path)) continue;
    std::string& place = folders_[InodeOf(path)];
    place = absl::StrCat(shadow_, "/", ++kept_);
    std::filesystem::rename(path, place);
  }
  for (const auto& [name, value] : values) {
    if (!absl::StartsWith(value, kFolder)) continue;
    std::string& place = folders_[std::stoull(value.substr(sizeof(kFolder) - 1))];
    if (!absl::StartsWith(place, shadow_)) continue;  // under another of its names already
    const std::string path = path_of(name);
    std::filesystem::rename(place, path);
    place = path;
  }
  for (const auto& [name, value] : values) {
    if (absl::StartsWith(value, kFolder)) continue;
    const std::string path = path_of(name);
    unlink(path.c_str());
    if (!value.empty() && IsFolder(FolderOf(path))) {
      if (link(value.c_str(), path.c_str()) != 0) std::abort();
    }
  }
  changes_.clear();
  durable_.clear();
}

void FaultyDisk::Lose(std::mt19937_64* random) {
  constexpr uint64_t kSectorBytes = 512;
  MutexLock lock(mutex_);
  LoseNames(random);
  for (auto& [inode, file] : files_) {
    const uint64_t bytes = SizeOf(file.link);
    if (bytes <= file.synced_bytes) continue;
    uint64_t end = file.synced_bytes;
    if (random != nullptr && (*random)() % 2 == 0) {
      end += (*random)() % (bytes - end + 1);
    } else if (random != nullptr && (*random)() % 2 == 0) {
      end = bytes;
    }
    const int descriptor = open(file.link.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor < 0 || ftruncate(descriptor, static_cast<off_t>(end)) != 0) std::abort();
    const bool holes = prefixed_.empty() || !absl::StrContains(file.made_as, prefixed_);
    for (uint64_t at = file.synced_bytes; holes && at < end;) {
      const uint64_t next = std::min(end, at / kSectorBytes * kSectorBytes + kSectorBytes);
      const uint64_t fate = (*random)() % 4;
      if (fate >= 2) {  // half of them survive
        std::string sector(next - at, '\0');
        for (char& byte : sector) byte = fate == 2 ? '\0' : static_cast<char>((*random)());
        if (pwrite(descriptor, sector.data(), sector.size(), static_cast<off_t>(at)) < 0) {
          std::abort();
        }
      }
      at = next;
    }
    close(descriptor);
    file.synced_bytes = end;
  }
}

}  // namespace ckpt
