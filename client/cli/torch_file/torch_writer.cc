#include "client/cli/torch_file/torch_writer.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/torch_file/pickle_writer.h"
#include "client/cli/torch_file/torch_globals.h"
#include "client/cli/torch_file/zip_writer.h"
#include "common/byte_size.h"
#include "common/key.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

using NodeKind = StateNode::Kind;

constexpr char kFolder[] = "archive/";
constexpr uint64_t kStringBytesMax = 1 << 30;
constexpr uint64_t kPickleBytesWrittenMax = UINT32_MAX - 1;  // no zip64 for it

uint32_t BytesOf(const v1::PlannedLeaf& leaf) {
  return leaf.has_alias_of() ? leaf.alias_of() : leaf.leaf_number();
}

void AddStorages(const StateNode& node, TorchState& state) {
  for (const auto& child : node.children) AddStorages(*child, state);
  if (node.kind != NodeKind::kLeaf || node.leaf->leaf().kind() != v1::LEAF_KIND_TENSOR) return;
  const v1::Leaf& leaf = node.leaf->leaf();
  const auto number = static_cast<uint32_t>(state.storages.size());
  const auto [found, is_new] = state.storage_of_leaf.emplace(BytesOf(*node.leaf), number);
  if (!is_new) return;
  ExportTensor storage{.leaf_number = node.leaf->leaf_number(),
                       .name = absl::StrCat(number),
                       .dtype = leaf.dtype(),
                       .shape = Extents(leaf.shape().begin(), leaf.shape().end())};
  storage.bytes = Volume(storage.shape).value_or(0) * DTypeBytes(storage.dtype);
  state.data_bytes += storage.bytes;
  state.storages.push_back(std::move(storage));
}

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
        WriteTensor(state_.storages[state_.storage_of_leaf.at(BytesOf(leaf))]);
        return absl::OkStatus();
      case v1::LEAF_KIND_STRING_BYTES: {
        CKPT_ASSIGN_OR_RETURN(const std::string text, ReadString(leaf));
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
    const Extents shape(leaf.leaf().shape().begin(), leaf.leaf().shape().end());
    const uint64_t bytes = Volume(shape).value_or(UINT64_MAX);
    if (bytes > kStringBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(PrintKey(leaf.leaf().key())), " is a string of ",
                       PrintByteSize(bytes), ", too long to stand in a pickle: leave it out with "
                       "--exclude"));
    }
    std::string out(bytes, '\0');
    if (bytes == 0) return out;
    const ReadTarget target{.leaf_number = leaf.leaf_number(),
                            .region = Box::Whole(shape),
                            .out = reinterpret_cast<std::byte*>(out.data())};
    CKPT_RETURN_IF_ERROR(plan_.Read({&target, 1}));
    return out;
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

absl::StatusOr<TorchState> MakeTorchState(const RestorePlan& plan) {
  TorchState state;
  CKPT_ASSIGN_OR_RETURN(state.root, MakeStateTree(plan));
  AddStorages(*state.root, state);
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
