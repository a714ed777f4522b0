// Opening a data folder, in this order:
//   1. look at what is there: nothing, ours, or somebody else's (refused before a byte is written);
//   2. take the lock (flock: the kernel drops it with the process, so a crash leaves no stale one);
//   3. read FORMAT, or sync the folder's parent (the folder may be new) and write FORMAT durably. A
//      crash before it leaves LOCK and perhaps FORMAT.partial, which step 1 takes for an empty
//      folder;
//   4. make the sub-folders, sync;
//   5. remove *.partial: nobody has ever been told of them; and what an index that was being
//      rebuilt has left.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/manifest.h"
#include "common/status_macros.h"
#include "server/storage/data_folder.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

constexpr absl::string_view kFormatText = "ckptd data folder, format ";

// NOT_FOUND: the folder is empty, or as good as empty.
absl::StatusOr<uint32_t> ReadFormat(FileSystem& files, const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(const std::vector<std::string> entries, files.List(path));
  bool ours = false;
  std::string stranger;
  for (const std::string& name : entries) {
    if (name == names::kFormat) ours = true;
    if (name != names::kLock && name != names::Partial(names::kFormat) && name != "lost+found") {
      stranger = name;
    }
  }
  if (!ours && stranger.empty()) return absl::NotFoundError("an empty folder");
  if (!ours) {
    return absl::InvalidArgumentError(absl::StrCat(
        "not a ckptd data folder: ", path, " has no FORMAT file but contains ", stranger,
        "; give an empty folder, one that does not exist yet, or an existing data folder"));
  }
  CKPT_ASSIGN_OR_RETURN(const std::string text,
                        files.ReadWhole(absl::StrCat(path, "/", names::kFormat)));
  absl::string_view rest = text;
  uint32_t version = 0;
  if (!absl::ConsumePrefix(&rest, kFormatText) ||
      !absl::SimpleAtoi(absl::StripAsciiWhitespace(rest), &version) || version == 0) {
    return absl::DataLossError(absl::StrCat("the FORMAT file of ", path,
                                            " is damaged; it should say \"", kFormatText,
                                            kFormatVersion, "\""));
  }
  if (version > kFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the data folder was written by a newer ckptd: ", path, " has format ",
                     version, ", this program reads formats up to ", kFormatVersion));
  }
  return version;
}

std::string LockHolder(int descriptor) {
  char text[32] = {};
  const ssize_t bytes = pread(descriptor, text, sizeof(text) - 1, 0);
  int pid = 0;
  if (bytes > 0 && absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &pid)) {
    return absl::StrCat("process ", pid);
  }
  return "another process";
}

absl::StatusOr<int> TakeLock(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", names::kLock);
  int descriptor = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor < 0 && (errno == EROFS || errno == EACCES)) {
    descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }
  if (descriptor < 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot open the lock file ", path, ": ", std::strerror(errno)));
  }
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    const std::string holder = LockHolder(descriptor);
    close(descriptor);
    if (error == EWOULDBLOCK) {
      return absl::FailedPreconditionError(
          absl::StrCat("the data folder is in use by ", holder, ": ", folder));
    }
    return absl::InternalError(absl::StrCat("cannot lock ", path, ": ", std::strerror(error)));
  }
  // Only for people and for the text above: what counts is the lock.
  const std::string pid = absl::StrCat(getpid(), "\n");
  [[maybe_unused]] const bool named =
      ftruncate(descriptor, 0) == 0 && pwrite(descriptor, pid.data(), pid.size(), 0) > 0;
  return descriptor;
}

std::string ParentOf(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status WriteFormat(FileSystem& files, const std::string& path) {
  const absl::Status parent = files.SyncFolder(ParentOf(path));
  // A parent that we may not open is somebody else's, and so the folder is not our making.
  if (!parent.ok() && !absl::IsPermissionDenied(parent)) return parent;
  return files.WriteDurably(path, names::Partial(names::kFormat), names::kFormat,
                            absl::StrCat(kFormatText, kFormatVersion, "\n"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataFolder>> DataFolder::Open(FileSystem* files, std::string path) {
  absl::Status made = files->MakeFolder(path);
  if (!made.ok()) {
    return absl::Status(made.code(), absl::StrCat("cannot make the data folder: ", made.message()));
  }
  absl::StatusOr<uint32_t> format = ReadFormat(*files, path);
  if (!format.ok() && !absl::IsNotFound(format.status())) return format.status();
  CKPT_ASSIGN_OR_RETURN(const int descriptor, TakeLock(path));
  std::unique_ptr<DataFolder> folder(new DataFolder(files, path, descriptor));
  format = ReadFormat(*files, path);  // again: whoever had the lock may have written it
  if (absl::IsNotFound(format.status())) {
    CKPT_RETURN_IF_ERROR(WriteFormat(*files, path));
  } else if (!format.ok()) {
    return format.status();
  }
  for (const std::string& part :
       {folder->ObjectsFolder(), folder->CheckpointsFolder(), folder->IndexFolder()}) {
    CKPT_RETURN_IF_ERROR(files->MakeFolder(part));
  }
  CKPT_RETURN_IF_ERROR(files->SyncFolder(path));
  for (const std::string& part : {path, folder->ObjectsFolder(), folder->CheckpointsFolder()}) {
    CKPT_RETURN_IF_ERROR(folder->RemovePartials(part));
  }
  for (const char* left : {names::kIndexRebuild, names::kIndexReplaced}) {
    CKPT_RETURN_IF_ERROR(files->RemoveFlatFolder(absl::StrCat(path, "/", left)));
  }
  return folder;
}

absl::StatusOr<std::unique_ptr<DataFolder>> DataFolder::OpenExisting(FileSystem* files,
                                                                     std::string path) {
  absl::StatusOr<uint32_t> format = ReadFormat(*files, path);
  if (absl::IsNotFound(format.status())) {
    return absl::NotFoundError(absl::StrCat("no data folder there: ", path));
  }
  if (!format.ok()) return format.status();
  CKPT_ASSIGN_OR_RETURN(const int descriptor, TakeLock(path));
  return std::unique_ptr<DataFolder>(new DataFolder(files, std::move(path), descriptor));
}

absl::Status DataFolder::RemovePartials(const std::string& folder) {
  CKPT_ASSIGN_OR_RETURN(const std::vector<std::string> entries, files_->List(folder));
  for (const std::string& name : entries) {
    if (names::IsPartial(name)) {
      CKPT_RETURN_IF_ERROR(files_->Unlink(absl::StrCat(folder, "/", name)));
    }
  }
  return absl::OkStatus();
}

DataFolder::DataFolder(FileSystem* files, std::string path, int lock_descriptor)
    : files_(files), path_(std::move(path)), lock_descriptor_(lock_descriptor) {}

DataFolder::~DataFolder() { close(lock_descriptor_); }

}  // namespace ckpt
