#include "client/torch/flatten.h"

#include <exception>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/torch/convert.h"
#include "client/torch/save_filter.h"
#include "client/torch/tensor_bytes.h"
#include "common/key.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace ckpt {
namespace {

// What makes two tensors the same bytes, said the same way on every rank.
using Identity = std::tuple<const void*, int64_t, c10::ScalarType, std::vector<int64_t>,
                            std::vector<int64_t>, v1::Placement, std::string>;

class Flattener {
 public:
  explicit Flattener(const Converter& converter) : converter_(converter) {}

  absl::Status AddDict(const StateDict& dict, v1::Key& key) {
    for (const StateEntry& entry : dict) {
      v1::KeySegment& segment = *key.add_segments();
      if (entry.key.name()) {
        segment.set_name(*entry.key.name());
      } else {
        segment.set_number(*entry.key.number());
      }
      CKPT_RETURN_IF_ERROR(Add(entry.value, key));
      key.mutable_segments()->RemoveLast();
    }
    return absl::OkStatus();
  }

  // By leaf, where the converter is for pruning; none for what is no tensor.
  std::vector<std::optional<BytesIdentity>> TakeBytes() { return std::move(bytes_of_leaf_); }
  Part Take() {
    part_.keep_alive = std::make_shared<std::vector<at::Tensor>>(std::move(kept_));
    return std::move(part_);
  }

 private:
  absl::Status Fail(const v1::Key& key, const absl::Status& status) const {
    return absl::Status(status.code(), absl::StrCat(PrintKey(key), ": ", status.message()));
  }

  absl::Status Add(const StateValue& value, v1::Key& key) {
    if (const StateDict* dict = value.If<StateDict>()) {
      if (dict->empty()) return AddEmpty(key, v1::LEAF_KIND_EMPTY_DICT, value.placement());
      return AddDict(*dict, key);
    }
    if (const StateList* list = value.If<StateList>()) {
      if (list->empty()) return AddEmpty(key, v1::LEAF_KIND_EMPTY_LIST, value.placement());
      for (size_t i = 0; i < list->size(); ++i) {
        key.add_segments()->set_index(static_cast<uint32_t>(i));
        CKPT_RETURN_IF_ERROR(Add((*list)[i], key));
        key.mutable_segments()->RemoveLast();
      }
      return absl::OkStatus();
    }
    if (const at::Tensor* tensor = value.If<at::Tensor>()) {
      if (!tensor->defined()) return AddPlain(StateValue(), key, value.placement());
      return AddTensor(*tensor, nullptr, value.placement(), key);
    }
    if (const Sharded* sharded = value.If<Sharded>()) {
      return AddTensor(sharded->local, sharded, v1::PLACEMENT_SHARDED, key);
    }
    return AddPlain(value, key, value.placement());
  }

  absl::Status AddEmpty(const v1::Key& key, v1::LeafKind kind, v1::Placement placement) {
    PartLeaf leaf;
    leaf.key = key;
    leaf.kind = kind;
    leaf.placement = placement;
    part_.leaves.push_back(std::move(leaf));
    return absl::OkStatus();
  }

  absl::Status AddPlain(const StateValue& value, const v1::Key& key, v1::Placement placement) {
    v1::Value proto;
    if (value.is_null()) {
      proto.mutable_null();
    } else if (const bool* flag = value.If<bool>()) {
      proto.set_boolean(*flag);
    } else if (const int64_t* integer = value.If<int64_t>()) {
      proto.set_integer(*integer);
    } else if (const double* real = value.If<double>()) {
      proto.set_real(*real);
    } else if (const std::string* text = value.If<std::string>()) {
      if (!IsUtf8(*text)) {
        return Fail(key, absl::InvalidArgumentError(
                             "the string is not UTF-8: wrap byte strings in ckpt::Bytes"));
      }
      proto.set_text(*text);
    } else if (const Bytes* bytes = value.If<Bytes>()) {
      proto.set_raw(bytes->data);
    } else {
      return Fail(key, absl::InternalError(absl::StrCat(value.KindName(), " was not converted")));
    }
    PartLeaf leaf = ValueLeaf(key, std::move(proto), placement);
    leaf.copy_early = true;
    part_.leaves.push_back(std::move(leaf));
    return absl::OkStatus();
  }

  absl::Status AddTensor(const at::Tensor& live, const Sharded* sharded, v1::Placement placement,
                         const v1::Key& key) {
    if (absl::Status status = CheckStorable(live); !status.ok()) return Fail(key, status);
    const at::Tensor tensor = Resolved(live);
    CKPT_ASSIGN_OR_RETURN(const DType dtype, DTypeOf(tensor.scalar_type()));
    PartLeaf leaf;
    leaf.key = key;
    leaf.kind = v1::LEAF_KIND_TENSOR;
    leaf.placement = placement;
    leaf.dtype = dtype;
    leaf.box = Box::Whole(ShapeOf(tensor));
    leaf.shape = leaf.box.extent;
    if (sharded != nullptr) {
      leaf.shape = ToExtents(sharded->global_shape);
      leaf.box.offset = ToExtents(sharded->offset);
      leaf.replica_index = sharded->replica_index;
      leaf.replica_count = sharded->replica_count;
    }
    leaf.copy_early = !converter_.changes_in_step(live);
    // Tensors without bytes are shared by chance: one rank's empty boxes, where others hold two.
    if (tensor.numel() > 0) {
      const auto [first, is_new] =
          seen_.emplace(IdentityOf(tensor, sharded, placement), part_.leaves.size());
      if (!is_new) leaf.alias_of_plus_one = static_cast<uint32_t>(first->second) + 1;
    }
    if (tensor.is_contiguous()) {
      leaf.data = static_cast<const std::byte*>(tensor.data_ptr());
    }
    if (leaf.data == nullptr) {
      leaf.copy = [tensor](uint64_t begin, uint64_t bytes, std::byte* out) {
        CopyDenseBytes(tensor, begin, bytes, out);
      };
    }
    kept_.push_back(tensor);
    if (converter_.for_pruning()) {
      bytes_of_leaf_.resize(part_.leaves.size());
      bytes_of_leaf_.push_back(IdentityOfBytes(live));
    }
    part_.leaves.push_back(std::move(leaf));
    return absl::OkStatus();
  }

  static Identity IdentityOf(const at::Tensor& tensor, const Sharded* sharded,
                             v1::Placement placement) {
    std::string box;
    if (sharded != nullptr) {
      box = absl::StrCat(absl::StrJoin(sharded->global_shape, ","), ";",
                         absl::StrJoin(sharded->offset, ","), ";", sharded->replica_index, ";",
                         sharded->replica_count);
    }
    return {tensor.storage().unsafeGetStorageImpl(),
            tensor.storage_offset(),
            tensor.scalar_type(),
            tensor.sizes().vec(),
            tensor.strides().vec(),
            placement,
            std::move(box)};
  }

  const Converter& converter_;
  Part part_;
  std::map<Identity, size_t> seen_;
  std::vector<at::Tensor> kept_;
  std::vector<std::optional<BytesIdentity>> bytes_of_leaf_;  // ends with the last tensor
};

}  // namespace

absl::StatusOr<Part> MakePart(const StateDict& state, const TorchSaveOptions& options,
                              uint32_t rank, uint32_t world_size,
                              const std::vector<uint32_t>& share) {
  try {
    Converter converter(
        {options.module_placement, options.optimizer_placement, options.other_placement},
        options.prune_optimizer);
    CKPT_ASSIGN_OR_RETURN(const StateDict converted, ConvertAndFilter(state, options, converter));
    Flattener flattener(converter);
    v1::Key key;
    CKPT_RETURN_IF_ERROR(flattener.AddDict(converted, key));
    std::vector<std::optional<BytesIdentity>> bytes_of_leaf = flattener.TakeBytes();
    Part part = flattener.Take();
    part.rank = rank;
    part.world_size = world_size;
    part.share = share;
    CKPT_RETURN_IF_ERROR(FilterLeaves(options, converter, bytes_of_leaf, part));
    return part;
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("LibTorch failed: ", error.what()));
  }
}

}  // namespace ckpt
