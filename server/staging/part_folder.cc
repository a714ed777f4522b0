#include "server/staging/part_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/manifest.h"
#include "common/status_macros.h"
#include "server/staging/staging_file.h"

namespace ckpt {
namespace {

constexpr const char* kMarks[] = {"staged", "durable",    "committed", "plan",
                                  "layout", "layout.new", "plan.new",  "durable.new"};

absl::Status Failed(absl::string_view what, const std::string& path) {
  const std::string text = absl::StrCat(what, " ", path, ": ", std::strerror(errno));
  if (errno == ENOSPC || errno == EDQUOT) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

uint64_t PagesFor(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

absl::StatusOr<std::string> ReadWhole(const std::string& path) {
  Descriptor descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat there {};
  if (descriptor.get() < 0 || fstat(descriptor.get(), &there) != 0) {
    return absl::DataLossError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  }
  std::string bytes(static_cast<size_t>(there.st_size), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = read(descriptor.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return absl::DataLossError(absl::StrCat("cannot read all of ", path));
    done += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace

std::string PoolFolder(const std::string& memory_folder) { return memory_folder + "/pool"; }
std::string PartsFolder(const std::string& memory_folder) { return memory_folder + "/parts"; }

absl::StatusOr<std::shared_ptr<PartFolder>> PartFolder::Create(const std::string& memory_folder) {
  const std::string path = absl::StrCat(PartsFolder(memory_folder), "/", FileId::Random().hex());
  if (mkdir(path.c_str(), 0700) != 0) return Failed("cannot make the staging folder", path);
  return std::shared_ptr<PartFolder>(new PartFolder(path));
}

std::shared_ptr<PartFolder> PartFolder::Existing(std::string path) {
  return std::shared_ptr<PartFolder>(new PartFolder(std::move(path)));
}

void PartFolder::CountRecords() {
  record_bytes_ = 0;
  for (const char* name : {"staged", "durable", "layout"}) {  // the other names are links to these
    struct stat there {};
    if (stat(absl::StrCat(path_, "/", name).c_str(), &there) != 0) continue;
    const auto sharers = name == absl::string_view("layout") ? there.st_nlink : 1;
    record_bytes_ +=
        PagesFor(static_cast<uint64_t>(there.st_size)) / std::max<uint64_t>(sharers, 1);
  }
}

absl::Status PartFolder::Put(const std::string& name, absl::string_view bytes) {
  const std::string final_path = absl::StrCat(path_, "/", name);
  const std::string temporary = final_path + ".new";
  {
    Descriptor descriptor(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (descriptor.get() < 0) return Failed("cannot make", temporary);
    absl::string_view rest = bytes;
    while (!rest.empty()) {
      const ssize_t put = write(descriptor.get(), rest.data(), rest.size());
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) {
        const absl::Status status = Failed("cannot write", temporary);
        unlink(temporary.c_str());
        return status;
      }
      rest.remove_prefix(static_cast<size_t>(put));
    }
  }
  if (rename(temporary.c_str(), final_path.c_str()) != 0) {
    const absl::Status status = Failed("cannot rename to", final_path);
    unlink(temporary.c_str());
    return status;
  }
  record_bytes_ += PagesFor(bytes.size());
  return absl::OkStatus();
}

absl::Status PartFolder::WriteLayout(const PartLayout& layout, const PartFolder* like) {
  if (like != nullptr && link(like->layout_path().c_str(), layout_path().c_str()) == 0) {
    return absl::OkStatus();
  }
  return Put("layout", layout.serialized());
}

absl::Status PartFolder::WritePlan(const staging::StagedPlan& plan) {
  return Put("plan", SealEnvelope(EnvelopeKind::kStagedPlan, plan));
}

absl::Status PartFolder::MarkStaged() {
  if (link((path_ + "/plan").c_str(), (path_ + "/staged").c_str()) != 0) {
    return Failed("cannot mark as staged", path_);
  }
  return absl::OkStatus();
}

absl::Status PartFolder::MarkDurable(const v1::PartReference& reference) {
  staging::DurableRecord record;
  *record.mutable_reference() = reference;
  return Put("durable", SealEnvelope(EnvelopeKind::kStagedPlan, record));
}

absl::Status PartFolder::MarkCommitted() {
  if (link((path_ + "/plan").c_str(), (path_ + "/committed").c_str()) != 0) {
    return Failed("cannot mark as committed", path_);
  }
  return absl::OkStatus();
}

void PartFolder::Unstage() { unlink((path_ + "/staged").c_str()); }

void PartFolder::Remove() {
  // `staged` goes first: whatever is left after a crash is then no promise.
  for (const char* name : kMarks) unlink(absl::StrCat(path_, "/", name).c_str());
  rmdir(path_.c_str());
  record_bytes_ = 0;
}

std::optional<FoundPart> ReadPartFolder(const std::string& path) {
  FoundPart found;
  found.folder = PartFolder::Existing(path);
  if (!Exists(path + "/staged")) {
    unlink(found.folder->data_path().c_str());
    found.folder->Remove();
    return std::nullopt;
  }
  auto read = [&](const char* name, google::protobuf::MessageLite* into) -> absl::Status {
    const std::string file = absl::StrCat(path, "/", name);
    CKPT_ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(file));
    return OpenEnvelope(EnvelopeKind::kStagedPlan, bytes, file, into);
  };
  found.damage = read("staged", &found.plan);
  if (!found.damage.ok()) return found;
  staging::DurableRecord record;
  if (Exists(path + "/durable")) {
    found.damage = read("durable", &record);
    if (!found.damage.ok()) return found;
    found.durable = record.reference();
  }
  found.committed = Exists(path + "/committed");
  found.has_data = Exists(found.folder->data_path());
  return found;
}

absl::StatusOr<std::shared_ptr<const PartLayout>> ReadLayout(const FoundPart& part) {
  CKPT_ASSIGN_OR_RETURN(std::string bytes, ReadWhole(part.folder->layout_path()));
  CKPT_ASSIGN_OR_RETURN(std::shared_ptr<const PartLayout> layout,
                        PartLayout::FromBytes(std::move(bytes)));
  if (layout->digest() != part.plan.layout_digest()) {
    return absl::DataLossError(
        absl::StrCat(part.folder->layout_path(), " is not the layout that the plan names"));
  }
  return layout;
}

}  // namespace ckpt
