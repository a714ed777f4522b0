#include "client/cli/torch_file/torch_writer.h"

#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/cli/torch_file/pickle_writer.h"
#include "client/cli/torch_file/torch_globals.h"
#include "client/cli/torch_file/zip_writer.h"
#include "common/byte_size.h"
#include "common/key.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace ckpt::cli {
namespace {

using NodeKind = StateNode::Kind;

constexpr char kFolder[] = "archive/";
constexpr uint64_t kStringBytesMax = 1 << 30;
constexpr uint64_t kPickleBytesWrittenMax = UINT32_MAX - 1;  // no zip64 for it

uint32_t BytesOf(const v1::PlannedLeaf& leaf) {
  return leaf.has_alias_of() ? leaf.alias_of() : leaf.leaf_number();
}

// One for each box of the bytes that a leaf and its aliases stand for.
class StorageNumbers {
 public:
  explicit StorageNumbers(TorchState& state) : state_(state) {}

  void Add(const StateNode& node) {
    for (const auto& child : node.children) Add(*child);
    if (node.kind != NodeKind::kLeaf || node.leaf->leaf().kind() != v1::LEAF_KIND_TENSOR) return;
    ExportTensor storage = MakeExportTensor(*node.leaf, state_.boxes);
    const auto number = static_cast<uint32_t>(state_.storages.size());
    const auto [found, is_new] =
        numbers_.try_emplace({BytesOf(*node.leaf), storage.offset, storage.shape}, number);
    state_.storage_of_leaf.emplace(storage.leaf_number, found->second);
    if (!is_new) return;
    storage.name = absl::StrCat(number);
    state_.data_bytes += storage.bytes;
    state_.storages.push_back(std::move(storage));
  }

 private:
  TorchState& state_;
  absl::flat_hash_map<std::tuple<uint32_t, Extents, Extents>, uint32_t> numbers_;
};

Extents DenseStrides(absl::Span<const uint64_t> shape) {
  Extents strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) {
    strides[d - 1] = strides[d] * std::max<uint64_t>(1, shape[d]);
  }
  return strides;
}

class StateWriter {
 public:
  StateWriter(RestorePlan& plan, const TorchState& state,
              absl::FunctionRef<absl::Status(absl::string_view)> sink)
      : plan_(plan), state_(state), pickle_(sink) {}

  absl::Status Write() {
    CKPT_RETURN_IF_ERROR(Write(*state_.root));
    return pickle_.Finish();
  }

 private:
  absl::Status Write(const StateNode& node) {
    if (node.kind == NodeKind::kLeaf) return WriteLeaf(*node.leaf);
    const bool is_list = node.kind == NodeKind::kList;
    is_list ? pickle_.BeginList() : pickle_.BeginDict();
    for (const auto& child : node.children) {
      pickle_.Next();
      if (child->key.kind_case() == v1::KeySegment::kName) pickle_.Text(child->key.name());
      if (child->key.kind_case() == v1::KeySegment::kNumber) pickle_.Integer(child->key.number());
      CKPT_RETURN_IF_ERROR(Write(*child));
    }
    pickle_.End();
    return absl::OkStatus();
  }

  absl::Status WriteLeaf(const v1::PlannedLeaf& leaf) {
    switch (leaf.leaf().kind()) {
      case v1::LEAF_KIND_TENSOR:
        WriteTensor(state_.storages[state_.storage_of_leaf.at(leaf.leaf_number())]);
        return absl::OkStatus();
      case v1::LEAF_KIND_STRING_BYTES: {
        CKPT_ASSIGN_OR_RETURN(const std::string text, ReadString(leaf));
        if (state_.boxes.Of(leaf.leaf()) != nullptr && !IsUtf8(text)) return HalfCharacter(leaf);
        pickle_.Text(text);
        return absl::OkStatus();
      }
      case v1::LEAF_KIND_RAW_BYTES: {
        CKPT_ASSIGN_OR_RETURN(const std::string bytes, ReadString(leaf));
        pickle_.Bytes(bytes);
        return absl::OkStatus();
      }
      default:
        WriteValue(leaf.value());
        return absl::OkStatus();
    }
  }

  void WriteValue(const v1::Value& value) {
    switch (value.kind_case()) {
      case v1::Value::kBoolean:
        return pickle_.Bool(value.boolean());
      case v1::Value::kInteger:
        return pickle_.Integer(value.integer());
      case v1::Value::kReal:
        return pickle_.Real(value.real());
      case v1::Value::kText:
        return pickle_.Text(value.text());
      case v1::Value::kRaw:
        return pickle_.Bytes(value.raw());
      default:
        return pickle_.None();
    }
  }

  // As PyTorch's Python reduces a tensor: a call with its storage, offset, size, strides,
  // requires_grad and hooks; a dtype where the storage class doesn't say it.
  void WriteTensor(const ExportTensor& storage) {
    const absl::string_view type = TorchStorageName(storage.dtype);
    const bool untyped = type.empty();
    pickle_.Global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    pickle_.Mark();
    pickle_.Mark();
    pickle_.Text("storage");
    pickle_.Global(untyped ? "torch.storage" : "torch", untyped ? "UntypedStorage" : type);
    pickle_.Text(storage.name);
    pickle_.Text("cpu");
    pickle_.Integer(
        static_cast<int64_t>(untyped ? storage.bytes : storage.bytes / DTypeBytes(storage.dtype)));
    pickle_.Tuple();
    pickle_.PersistentId();
    pickle_.Integer(0);
    pickle_.IntegerTuple(storage.shape);
    pickle_.IntegerTuple(DenseStrides(storage.shape));
    pickle_.Bool(false);
    pickle_.Global("collections", "OrderedDict");
    pickle_.IntegerTuple({});
    pickle_.Call();
    if (untyped) pickle_.Global("torch", TorchDTypeName(storage.dtype));
    pickle_.Tuple();
    pickle_.Call();
  }

  absl::StatusOr<std::string> ReadString(const v1::PlannedLeaf& leaf) {
    const ExportTensor string = MakeExportTensor(leaf, state_.boxes);
    if (string.bytes > kStringBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(PrintKey(leaf.leaf().key())), " is a string of ",
                       PrintByteSize(string.bytes),
                       ", too long to stand in a pickle: leave it out with --exclude"));
    }
    std::string out(string.bytes, '\0');
    if (out.empty()) return out;
    Box region = Box::Whole(string.shape);
    if (!string.offset.empty()) region.offset = string.offset;
    const ReadTarget target{.leaf_number = leaf.leaf_number(),
                            .region = std::move(region),
                            .out = reinterpret_cast<std::byte*>(out.data())};
    CKPT_RETURN_IF_ERROR(plan_.Read({&target, 1}));
    return out;
  }

  absl::Status HalfCharacter(const v1::PlannedLeaf& leaf) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "--slice ", absl::Utf8SafeCEscape(PrintKey(leaf.leaf().key())),
        state_.boxes.Of(leaf.leaf())->ToString(),
        " cuts a character of the text in two: move its ends, or give --format safetensors, which "
        "takes any bytes"));
  }

  RestorePlan& plan_;
  const TorchState& state_;
  PickleWriter pickle_;
};

absl::Status WritePickle(RestorePlan& plan, const TorchState& state, ZipWriter& zip) {
  uint64_t bytes = 0;
  const auto sink = [&](absl::string_view piece) {
    bytes += piece.size();
    if (bytes > kPickleBytesWrittenMax) {
      return absl::InvalidArgumentError(
          "the keys and values alone take 4 GiB: leave some out with --exclude");
    }
    return zip.Write(piece);
  };
  CKPT_RETURN_IF_ERROR(zip.Begin(absl::StrCat(kFolder, "data.pkl"), kPickleBytesWrittenMax));
  CKPT_RETURN_IF_ERROR(StateWriter(plan, state, sink).Write());
  return zip.End();
}

absl::Status WriteStorages(RestorePlan& plan, const TorchState& state, ZipWriter& zip,
                           absl::FunctionRef<void(uint64_t bytes)> wrote) {
  size_t begun = 0;  // entries; the last of them is open
  const auto begin_up_to = [&](size_t count) {
    for (; begun < count; ++begun) {
      if (begun > 0) CKPT_RETURN_IF_ERROR(zip.End());
      const ExportTensor& storage = state.storages[begun];
      CKPT_RETURN_IF_ERROR(
          zip.Begin(absl::StrCat(kFolder, "data/", storage.name), storage.bytes));
    }
    return absl::OkStatus();
  };
  CKPT_RETURN_IF_ERROR(
      ReadInOrder(plan, state.storages, [&](size_t i, absl::string_view bytes) {
        CKPT_RETURN_IF_ERROR(begin_up_to(i + 1));
        CKPT_RETURN_IF_ERROR(zip.Write(bytes));
        wrote(bytes.size());
        return absl::OkStatus();
      }));
  CKPT_RETURN_IF_ERROR(begin_up_to(state.storages.size()));
  return begun > 0 ? zip.End() : absl::OkStatus();
}

}  // namespace

absl::StatusOr<TorchState> MakeTorchState(const RestorePlan& plan, SliceBoxes boxes) {
  TorchState state;
  state.boxes = std::move(boxes);
  CKPT_ASSIGN_OR_RETURN(state.root, MakeStateTree(plan));
  StorageNumbers(state).Add(*state.root);
  return state;
}

absl::Status WriteTorchFile(RestorePlan& plan, const TorchState& state, OutputFile& file,
                            absl::FunctionRef<void(uint64_t bytes)> wrote) {
  ZipWriter zip(file);
  CKPT_RETURN_IF_ERROR(WritePickle(plan, state, zip));
  CKPT_RETURN_IF_ERROR(zip.Add(absl::StrCat(kFolder, "byteorder"), "little"));
  CKPT_RETURN_IF_ERROR(WriteStorages(plan, state, zip, wrote));
  CKPT_RETURN_IF_ERROR(zip.Add(absl::StrCat(kFolder, "version"), "3\n"));
  CKPT_RETURN_IF_ERROR(zip.Finish());
  return file.SyncAndClose();
}

}  // namespace ckpt::cli
