// dump: what the manifests say, without the index: all checkpoints, or one in full.
#include <algorithm>
#include <iomanip>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/box.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/layout.h"
#include "common/safetensors.h"
#include "common/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "server/offline/command.h"
#include "server/storage/names.h"

namespace ckpt::offline {
namespace {

struct Found {
  v1::CheckpointManifest manifest;
  v1::Labels labels;
};

uint64_t DataBytes(const v1::CheckpointManifest& manifest) {
  uint64_t bytes = 0;
  for (const v1::PartReference& part : manifest.parts()) bytes += part.data_bytes();
  return bytes;
}

std::string Ranks(const v1::CheckpointManifest& manifest) {
  return absl::StrCat(manifest.share_size(), " of ", manifest.world_size());
}

std::string CommittedAt(const v1::CheckpointManifest& manifest) {
  return google::protobuf::util::TimeUtil::ToString(manifest.committed_at());
}

std::string HexOf(const std::string& id_bytes) {
  auto id = FileId::FromBytes(id_bytes, "id");
  return id.ok() ? id->hex() : std::string("?");
}

// Sorted by run, step, incarnation and attempt. Damaged ones are named on stderr and counted.
absl::StatusOr<std::vector<Found>> ReadAll(DataFolder& folder, const Output& output,
                                           uint64_t* damaged) {
  CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> uids, folder.ListCheckpointManifests());
  std::vector<Found> all;
  for (const CheckpointUid uid : uids) {
    Found found;
    absl::StatusOr<v1::CheckpointManifest> manifest = folder.ReadCheckpointManifest(uid);
    absl::StatusOr<v1::Labels> labels = folder.ReadLabels(uid);
    for (const absl::Status& status : {manifest.status(), labels.status()}) {
      if (status.ok()) continue;
      output.errors << "damaged: " << std::string(status.message()) << "\n";
      ++*damaged;
    }
    if (!manifest.ok()) continue;
    found.manifest = *std::move(manifest);
    if (labels.ok()) found.labels = *std::move(labels);
    all.push_back(std::move(found));
  }
  std::sort(all.begin(), all.end(), [](const Found& a, const Found& b) {
    const auto key = [](const Found& found) {
      const v1::CheckpointId& id = found.manifest.id();
      return std::tuple(id.run(), id.step(), id.incarnation(), found.manifest.checkpoint_uid());
    };
    return key(a) < key(b);
  });
  return all;
}

Json ToJson(const Found& found) {
  const v1::CheckpointManifest& manifest = found.manifest;
  Json json;
  json["run"] = manifest.id().run();
  json["step"] = manifest.id().step();
  json["incarnation"] = HexOf(manifest.id().incarnation());
  json["uid"] = HexOf(manifest.checkpoint_uid());
  json["world_size"] = manifest.world_size();
  json["share"] = std::vector<uint32_t>(manifest.share().begin(), manifest.share().end());
  json["data_bytes"] = DataBytes(manifest);
  json["committed_at"] = CommittedAt(manifest);
  json["tags"] = std::vector<std::string>(found.labels.tags().begin(), found.labels.tags().end());
  json["pinned"] = found.labels.pinned();
  json["note"] = found.labels.note();
  json["metrics"] = Json::object();
  for (const auto& [name, value] : found.labels.metrics()) json["metrics"][name] = value;
  return json;
}

void PrintList(const std::vector<Found>& all, const Output& output) {
  size_t run_width = 3;
  for (const Found& found : all) run_width = std::max(run_width, found.manifest.id().run().size());
  const auto line = [&](const std::string& run, const std::string& step, const std::string& ranks,
                        const std::string& bytes, const std::string& incarnation,
                        const std::string& at, const std::string& tags) {
    output.text << std::left << std::setw(static_cast<int>(run_width)) << run << std::right
                << std::setw(12) << step << std::setw(12) << ranks << std::setw(12) << bytes << "  "
                << std::left << std::setw(14) << incarnation << std::setw(32) << at << tags << "\n";
  };
  line("RUN", "STEP", "RANKS", "SIZE", "INCARNATION", "COMMITTED", "TAGS");
  for (const Found& found : all) {
    std::vector<std::string> tags(found.labels.tags().begin(), found.labels.tags().end());
    if (found.labels.pinned()) tags.push_back("(pinned)");
    line(found.manifest.id().run(), absl::StrCat(found.manifest.id().step()), Ranks(found.manifest),
         PrintByteSize(DataBytes(found.manifest)),
         HexOf(found.manifest.id().incarnation()).substr(0, 12), CommittedAt(found.manifest),
         absl::StrJoin(tags, " "));
  }
}

Json ShardJson(const PartLayout& layout, const v1::PartManifest& part, size_t shard) {
  const ShardView view = layout.shard_boxes()[shard];
  const LeafView leaf = layout.leaves()[view.leaf];
  const PartLayout::ShardPlace& place = layout.shards()[shard];
  const v1::DataFile& file = part.files(static_cast<int>(place.file));
  Json json;
  json["key"] = std::string(leaf.printed_key);
  json["dtype"] = std::string(DTypeName(leaf.dtype));
  json["shape"] = std::vector<uint64_t>(leaf.shape.begin(), leaf.shape.end());
  json["box"] = view.box().ToString();
  json["file"] = names::DataFile(*FileId::FromBytes(file.file_id(), "file id"));
  json["offset"] =
      file.header_length() + place.part_offset - layout.files()[place.file].part_offset;
  json["bytes"] = place.length;
  return json;
}

absl::StatusOr<Json> PartJson(DataFolder& folder, const v1::PartReference& reference) {
  CKPT_ASSIGN_OR_RETURN(const v1::PartManifest part, folder.ReadPartManifest(reference));
  CKPT_ASSIGN_OR_RETURN(const auto layout, PartLayout::FromProto(part.layout()));
  if (static_cast<size_t>(part.files_size()) != layout->files().size()) {
    return absl::DataLossError("a part manifest does not fit its layout");
  }
  Json json;
  json["rank"] = part.rank();
  json["manifest"] =
      names::PartManifest(*FileId::FromBytes(reference.manifest_id(), "manifest id"));
  json["files"] = Json::array();
  for (const v1::DataFile& file : part.files()) {
    json["files"].push_back(
        {{"name", names::DataFile(*FileId::FromBytes(file.file_id(), "file id"))},
         {"bytes", file.length()}});
  }
  json["shards"] = Json::array();
  for (size_t i = 0; i < layout->shards().size(); ++i) {
    json["shards"].push_back(ShardJson(*layout, part, i));
  }
  json["values"] = Json::object();
  for (const v1::Values::Entry& entry : part.values().entries()) {
    const Json value = Json::parse(ValueToJson(entry.value()), nullptr, /*allow_exceptions=*/false);
    json["values"][std::string(layout->leaves().printed_key(entry.leaf()))] = value;
  }
  return json;
}

void PrintOne(const Json& json, const Output& output) {
  output.text << json["run"].get<std::string>() << "@" << json["step"] << "\n"
              << "  incarnation " << json["incarnation"].get<std::string>() << ", attempt "
              << json["uid"].get<std::string>() << "\n"
              << "  committed " << json["committed_at"].get<std::string>() << ", "
              << json["share"].size() << " of " << json["world_size"] << " ranks, "
              << PrintByteSize(json["data_bytes"].get<uint64_t>()) << "\n";
  for (const Json& part : json["parts"]) {
    output.text << "  rank " << part["rank"] << ": " << part["manifest"].get<std::string>() << "\n";
    for (const Json& file : part["files"]) {
      output.text << "    " << file["name"].get<std::string>() << ", "
                  << PrintByteSize(file["bytes"].get<uint64_t>()) << "\n";
    }
    for (const Json& shard : part["shards"]) {
      output.text << "    " << shard["key"].get<std::string>() << "  "
                  << shard["dtype"].get<std::string>() << " " << shard["shape"].dump() << "  "
                  << shard["box"].get<std::string>() << "  at " << shard["offset"] << ", "
                  << shard["bytes"] << " bytes\n";
    }
    for (const auto& [key, value] : part["values"].items()) {
      output.text << "    " << key << " = " << value.dump() << "\n";
    }
  }
}

// The winner of the step, as the daemon would choose it.
absl::StatusOr<const Found*> Select(const std::vector<Found>& all, const std::string& text) {
  CKPT_ASSIGN_OR_RETURN(const v1::Selector selector, ParseSelector(text));
  const Found* chosen = nullptr;
  for (const Found& found : all) {  // ascending: the last match is the greatest
    if (found.manifest.id().run() != selector.run()) continue;
    const auto& tags = found.labels.tags();
    const bool matches =
        selector.which_case() == v1::Selector::kStep
            ? found.manifest.id().step() == selector.step()
            : selector.which_case() != v1::Selector::kTag ||
                  std::find(tags.begin(), tags.end(), selector.tag()) != tags.end();
    if (matches) chosen = &found;
  }
  if (chosen == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("no checkpoint ", text, "; `ckptutil dump DATA_FOLDER` lists what there is"));
  }
  return chosen;
}

}  // namespace

absl::StatusOr<ExitCode> Dump(const Arguments& arguments, const Output& output) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<DataFolder> folder, OpenFolder(arguments.folder));
  uint64_t damaged = 0;
  CKPT_ASSIGN_OR_RETURN(const std::vector<Found> all, ReadAll(*folder, output, &damaged));
  if (arguments.selector.empty()) {
    if (arguments.json) {
      Json list = Json::array();
      for (const Found& found : all) list.push_back(ToJson(found));
      output.text << Printed(list) << "\n";
    } else {
      PrintList(all, output);
    }
    return damaged > 0 ? kExitDamaged : kExitOk;
  }
  CKPT_ASSIGN_OR_RETURN(const Found* found, Select(all, arguments.selector));
  Json json = ToJson(*found);
  json["parts"] = Json::array();
  for (const v1::PartReference& reference : found->manifest.parts()) {
    CKPT_ASSIGN_OR_RETURN(Json part, PartJson(*folder, reference));
    json["parts"].push_back(std::move(part));
  }
  if (arguments.json) {
    output.text << Printed(json) << "\n";
  } else {
    PrintOne(json, output);
  }
  return kExitOk;
}

}  // namespace ckpt::offline
