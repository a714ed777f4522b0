#include "client/cli/torch_file/torch_reader.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/torch_file/dense_view.h"
#include "client/cli/torch_file/pickle.h"
#include "client/cli/torch_file/zip_reader.h"
#include "common/byte_size.h"
#include "common/key.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace ckpt::cli {
namespace {

constexpr uint64_t kPickleBytesMax = 512 << 20;
constexpr uint64_t kSmallEntryBytesMax = 4096;
// A small pickle may name a container, a string or a storage many times over. What comes of it is
// bounded by what the file holds, and by this much more.
constexpr uint64_t kRepeatedLeaves = 4096;
constexpr uint64_t kRepeatedBytes = 64 << 20;
constexpr uint64_t kDenseTimesMax = 8;  // as often may one storage stand in different views

// Each character is a byte. Empty where it isn't so.
std::optional<std::string> FromLatin1(absl::string_view utf8) {
  std::string bytes;
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto first = static_cast<uint8_t>(utf8[i]);
    if (first < 0x80) {
      bytes.push_back(utf8[i]);
      continue;
    }
    if ((first != 0xc2 && first != 0xc3) || i + 1 == utf8.size() || (utf8[i + 1] & 0xc0) != 0x80) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>((first & 3) << 6 | (utf8[++i] & 0x3f)));
  }
  return bytes;
}

// The entries of an archive that a pickle refers to.
struct Archive {
  ZipReader zip;
  std::string folder;  // what all names begin with: "archive/"
  const ZipEntry* Find(absl::string_view name) const {
    return zip.Find(absl::StrCat(folder, name));
  }
};

absl::StatusOr<Archive> OpenArchive(std::shared_ptr<const InputFile> file) {
  CKPT_ASSIGN_OR_RETURN(ZipReader zip, ZipReader::Open(std::move(file)));
  std::optional<std::string> folder;
  for (const ZipEntry& entry : zip.entries()) {
    const size_t slash = entry.name.find('/');
    if (slash == std::string::npos || entry.name.substr(slash) != "/data.pkl") continue;
    if (folder) return absl::InvalidArgumentError("a zip archive with two states in it");
    folder = entry.name.substr(0, slash + 1);
  }
  if (!folder) {
    return absl::InvalidArgumentError(
        "a zip archive, but none of torch.save: it has no FOLDER/data.pkl");
  }
  Archive archive{std::move(zip), *std::move(folder)};
  if (archive.Find("constants.pkl") != nullptr) {
    return absl::InvalidArgumentError(
        "a TorchScript archive (torch.jit.save, or LibTorch's torch::save), which is made of "
        "classes: load it and save its state_dict(), or save with ckptd's LibTorch adapter");
  }
  if (const ZipEntry* order = archive.Find("byteorder")) {
    CKPT_ASSIGN_OR_RETURN(const std::string text, archive.zip.Read(*order, kSmallEntryBytesMax));
    if (text != "little") {
      return absl::InvalidArgumentError(
          absl::StrCat("the file's byte order is ", Quoted(text), "; only little-endian is read"));
    }
  }
  return archive;
}

class LeafMaker {
 public:
  LeafMaker(const Archive& archive, const Pickle& pickle, uint64_t pickle_bytes)
      : archive_(archive),
        pickle_(pickle),
        leaves_max_(std::min<uint64_t>(kLeavesPerPartMax, kRepeatedLeaves + pickle_bytes)),
        plain_bytes_left_(kRepeatedBytes + pickle_bytes),
        dense_bytes_left_(kRepeatedBytes + kDenseTimesMax * archive.zip.file()->size()),
        verified_(pickle.storages.size(), nullptr) {}

  absl::StatusOr<std::vector<ImportLeaf>> Make() {
    const auto* root = std::get_if<PickleDict>(&pickle_.root);
    if (root == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("holds ", KindName(pickle_.root),
                       ", not a dictionary: save it under a name, as {\"model\": ...}"));
    }
    for (const auto& [name, value] : pickle_.dicts[root->index]) {
      CKPT_RETURN_IF_ERROR(AddEntry(name, value));
    }
    return std::move(leaves_);
  }

 private:
  absl::Status Fail(absl::string_view what) const {
    const std::string key = PrintKey(key_);
    if (key.empty()) return absl::InvalidArgumentError(what);
    return absl::InvalidArgumentError(absl::StrCat(Quoted(key), ": ", what));
  }

  absl::Status AddEntry(const PickleValue& name, const PickleValue& value) {
    v1::KeySegment segment;
    if (const auto* text = std::get_if<PickleText>(&name)) {
      if (!IsUtf8(text->utf8)) return Fail("a key that is not valid UTF-8");
      segment.set_name(std::string(text->utf8));
    } else if (const auto* number = std::get_if<int64_t>(&name)) {
      segment.set_number(*number);
    } else {
      return Fail(absl::StrCat("a dictionary's key is ", KindName(name),
                               ": only strings and integers are kept"));
    }
    return AddChild(std::move(segment), value);
  }

  absl::Status AddChild(v1::KeySegment segment, const PickleValue& value) {
    if (static_cast<size_t>(key_.segments_size()) >= kKeySegmentsMax) {
      return Fail(absl::StrCat("nested deeper than ", kKeySegmentsMax, " containers"));
    }
    *key_.add_segments() = std::move(segment);
    CKPT_RETURN_IF_ERROR(Add(value));
    key_.mutable_segments()->RemoveLast();
    return absl::OkStatus();
  }

  absl::Status Add(const PickleValue& value) {
    if (const auto* dict = std::get_if<PickleDict>(&value)) {
      if (pickle_.dicts[dict->index].empty()) return AddEmpty(v1::LEAF_KIND_EMPTY_DICT);
      for (const auto& [name, child] : pickle_.dicts[dict->index]) {
        CKPT_RETURN_IF_ERROR(AddEntry(name, child));
      }
      return absl::OkStatus();
    }
    if (const auto* list = std::get_if<PickleList>(&value)) {
      const std::vector<PickleValue>& items = pickle_.lists[list->index];
      if (items.empty()) return AddEmpty(v1::LEAF_KIND_EMPTY_LIST);
      for (size_t i = 0; i < items.size(); ++i) {
        v1::KeySegment segment;
        segment.set_index(static_cast<uint32_t>(i));
        CKPT_RETURN_IF_ERROR(AddChild(std::move(segment), items[i]));
      }
      return absl::OkStatus();
    }
    if (const auto* tensor = std::get_if<PickleTensor>(&value)) return AddTensor(tensor->index);
    return AddPlain(value);
  }

  absl::StatusOr<ImportLeaf*> AddLeaf(v1::LeafKind kind, uint64_t plain_bytes) {
    if (leaves_.size() >= leaves_max_) return Fail("it names the same containers over and over");
    std::string printed = PrintKey(key_);
    plain_bytes += printed.size();
    if (plain_bytes > plain_bytes_left_) return Fail("it names the same strings over and over");
    plain_bytes_left_ -= plain_bytes;
    CKPT_RETURN_IF_ERROR(ValidateKey(key_));
    if (!printed_keys_.insert(std::move(printed)).second) return Fail("two entries print alike");
    leaves_.emplace_back();
    leaves_.back().key = key_;
    leaves_.back().kind = kind;
    return &leaves_.back();
  }

  absl::Status AddEmpty(v1::LeafKind kind) { return AddLeaf(kind, 0).status(); }

  absl::Status AddPlain(const PickleValue& value) {
    v1::Value plain;
    uint64_t bytes = 0;
    if (std::holds_alternative<std::monostate>(value)) {
      plain.mutable_null();
    } else if (const auto* flag = std::get_if<bool>(&value)) {
      plain.set_boolean(*flag);
    } else if (const auto* integer = std::get_if<int64_t>(&value)) {
      plain.set_integer(*integer);
    } else if (const auto* real = std::get_if<double>(&value)) {
      plain.set_real(*real);
    } else if (const auto* text = std::get_if<PickleText>(&value)) {
      if (!IsUtf8(text->utf8)) return Fail("a string that is not valid UTF-8");
      bytes = text->utf8.size();
      if (bytes <= plain_bytes_left_) plain.set_text(std::string(text->utf8));
    } else if (const auto* raw = std::get_if<PickleBytes>(&value)) {
      bytes = raw->bytes.size();
      if (bytes <= plain_bytes_left_) plain.set_raw(std::string(raw->bytes));
    } else if (const auto* latin1 = std::get_if<PickleLatin1>(&value)) {
      std::optional<std::string> decoded = FromLatin1(latin1->utf8);
      if (!decoded) return Fail("bytes that are none");
      bytes = decoded->size();
      plain.set_raw(*std::move(decoded));
    } else if (const auto* global = std::get_if<TorchGlobal>(&value);
               global != nullptr && global->kind == TorchGlobal::Kind::kDType) {
      plain.set_text(absl::StrCat("torch.", TorchDTypeName(global->dtype)));
    } else if (std::holds_alternative<PickleHugeInteger>(value)) {
      return Fail("an integer of more than 64 bits");
    } else {
      return Fail(absl::StrCat("refuses ", KindName(value),
                               ": only tensors, containers and plain values are read"));
    }
    CKPT_ASSIGN_OR_RETURN(ImportLeaf* const leaf, AddLeaf(v1::LEAF_KIND_VALUE, bytes));
    leaf->value = std::move(plain);
    return absl::OkStatus();
  }

  // Its entry, found and verified once.
  absl::StatusOr<const ZipEntry*> Storage(uint32_t index) {
    if (verified_[index] != nullptr) return verified_[index];
    const TorchStorage& storage = pickle_.storages[index];
    const ZipEntry* entry = archive_.Find(absl::StrCat("data/", storage.key));
    if (entry == nullptr) {
      return Fail(absl::StrCat("its storage, data/", storage.key, ", is not in the archive"));
    }
    if (entry->bytes != storage.bytes) {
      return Fail(absl::StrCat("its storage, data/", storage.key, ", is ",
                               PrintByteSize(entry->bytes), ", but should be ",
                               PrintByteSize(storage.bytes)));
    }
    CKPT_RETURN_IF_ERROR(archive_.zip.Verify(*entry));
    return verified_[index] = entry;
  }

  absl::Status AddTensor(uint32_t index) {
    const TorchTensor& tensor = pickle_.tensors[index];
    CKPT_ASSIGN_OR_RETURN(const ZipEntry* const entry, Storage(tensor.storage));
    const DenseView view(archive_.zip.file(), entry->data_offset, tensor);
    CKPT_ASSIGN_OR_RETURN(ImportLeaf* const leaf, AddLeaf(v1::LEAF_KIND_TENSOR, 0));
    leaf->dtype = tensor.dtype;
    leaf->shape = tensor.shape;
    leaf->read = [view](uint64_t begin, uint64_t bytes, void* out) {
      return view.Read(begin, bytes, out);
    };
    if (view.bytes() == 0) return absl::OkStatus();
    const auto [first, is_new] =
        seen_.emplace(std::tuple(tensor.storage, tensor.dtype, tensor.offset, tensor.shape,
                                 tensor.strides),
                      leaves_.size() - 1);
    if (!is_new) {
      leaf->alias_of = first->second;
      return absl::OkStatus();
    }
    if (view.bytes() > dense_bytes_left_) {
      return Fail("views of the same storage would become far more than the file holds: save "
                  "tensor.clone() of what matters");
    }
    dense_bytes_left_ -= view.bytes();
    return absl::OkStatus();
  }

  const Archive& archive_;
  const Pickle& pickle_;
  const uint64_t leaves_max_;
  uint64_t plain_bytes_left_;
  uint64_t dense_bytes_left_;
  std::vector<const ZipEntry*> verified_;  // by storage
  v1::Key key_;                            // where we are
  std::vector<ImportLeaf> leaves_;
  absl::flat_hash_set<std::string> printed_keys_;
  std::map<std::tuple<uint32_t, DType, uint64_t, Extents, Extents>, size_t> seen_;
};

absl::StatusOr<std::vector<ImportLeaf>> ReadChecked(std::shared_ptr<const InputFile> file) {
  std::string first(std::min<uint64_t>(file->size(), kTorchFormatBytes), '\0');
  CKPT_RETURN_IF_ERROR(file->Read(0, first.size(), first.data()));
  if (RecognizeTorchFormat(first) == TorchFormat::kLegacy) {
    return absl::InvalidArgumentError(
        "torch.save's format from before PyTorch 1.6 is not read: load it and save it again");
  }
  CKPT_ASSIGN_OR_RETURN(const Archive archive, OpenArchive(std::move(file)));
  CKPT_ASSIGN_OR_RETURN(const std::string bytes,
                        archive.zip.Read(*archive.Find("data.pkl"), kPickleBytesMax));
  absl::StatusOr<Pickle> pickle = ReadPickle(bytes);
  if (!pickle.ok()) {
    return absl::Status(pickle.status().code(),
                        absl::StrCat("data.pkl ", pickle.status().message()));
  }
  return LeafMaker(archive, *pickle, bytes.size()).Make();
}

}  // namespace

TorchFormat RecognizeTorchFormat(absl::string_view first_bytes) {
  // A pickle of protocol 2 of the number 0x1950a86a20f9469cfc6c.
  static constexpr absl::string_view kLegacyMagic =
      "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
  if (absl::StartsWith(first_bytes, "PK\x03\x04")) return TorchFormat::kZip;
  return absl::StartsWith(first_bytes, kLegacyMagic) ? TorchFormat::kLegacy : TorchFormat::kNone;
}

absl::StatusOr<std::vector<ImportLeaf>> ReadTorchFile(std::shared_ptr<const InputFile> file) {
  const std::string path = file->path();
  absl::StatusOr<std::vector<ImportLeaf>> leaves = ReadChecked(std::move(file));
  if (leaves.ok()) return leaves;
  return absl::Status(leaves.status().code(), absl::StrCat(path, ": ", leaves.status().message()));
}

}  // namespace ckpt::cli
