// ckptctl checkpoint diff RUN@STEP RUN@STEP
#include <cstdio>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/leaf_record.h"
#include "client/cli/selection_flags.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/key.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

using Difference = v1::LeafDifference;

const v1::Leaf& Shown(const Difference& difference) {
  return difference.has_after() ? difference.after() : difference.before();
}

absl::string_view Mark(Difference::Kind kind) {
  switch (kind) {
    case Difference::KIND_ADDED:
      return "+";
    case Difference::KIND_REMOVED:
      return "-";
    case Difference::KIND_UNKNOWN:
      return "?";
    default:
      return "~";
  }
}

// "F32 [2, 3]", "7"
std::string WhatText(const v1::Leaf& leaf, bool has_value, const v1::Value& value) {
  if (has_value) return ValueText(value);
  const std::string shape = ShapeText(leaf);
  return absl::StrCat(TypeText(leaf), shape.empty() ? "" : " ", shape);
}

std::string ChangeText(const Difference& difference) {
  const auto before = [&] {
    return WhatText(difference.before(), difference.has_before_value(), difference.before_value());
  };
  const auto after = [&] {
    return WhatText(difference.after(), difference.has_after_value(), difference.after_value());
  };
  switch (difference.kind()) {
    case Difference::KIND_ADDED:
      return after();
    case Difference::KIND_REMOVED:
      return before();
    case Difference::KIND_UNKNOWN:
      return "cut into other shards: cannot tell without reading";
    case Difference::KIND_CHANGED:
      if (!IsTensorKind(difference.after().kind())) break;
      return difference.changed_bytes() == difference.data_bytes()
                 ? std::string("all bytes")
                 : absl::StrCat(PrintByteSize(difference.changed_bytes()), " in changed blocks");
    default:
      break;
  }
  std::string old_text = before();
  std::string new_text = after();
  if (old_text == new_text) {  // only the placement differs
    old_text = PlacementText(difference.before(), difference.rank());
    new_text = PlacementText(difference.after(), difference.rank());
  }
  return absl::StrCat(old_text, " -> ", new_text);
}

Json DifferenceJson(const Difference& difference) {
  const v1::Leaf& leaf = Shown(difference);
  Json json;
  json["kind"] = absl::AsciiStrToLower(
      absl::StripPrefix(Difference::Kind_Name(difference.kind()), "KIND_"));
  json["key"] = PrintKey(leaf.key());
  if (leaf.placement() == v1::PLACEMENT_PER_RANK) json["rank"] = difference.rank();
  json["before"] = difference.has_before() ? LeafJson(difference.before()) : Json();
  json["after"] = difference.has_after() ? LeafJson(difference.after()) : Json();
  if (difference.has_before_value()) {
    json["before"]["value"] = ValueRecord(difference.before_value());
  }
  if (difference.has_after_value()) json["after"]["value"] = ValueRecord(difference.after_value());
  json["data_bytes"] = difference.data_bytes();
  json["changed_bytes"] = difference.changed_bytes();
  return json;
}

Json SummaryJson(const v1::DiffSummary& summary) {
  Json json;
  json["before"] = NameOf(summary.before());
  json["after"] = NameOf(summary.after());
  json["added"] = summary.added();
  json["removed"] = summary.removed();
  json["reshaped"] = summary.reshaped();
  json["changed"] = summary.changed();
  json["unknown"] = summary.unknown();
  json["identical"] = summary.identical();
  json["data_bytes"] = summary.data_bytes();
  json["identical_bytes"] = summary.identical_bytes();
  json["unknown_bytes"] = summary.unknown_bytes();
  return json;
}

// team/run@40 -> team/run@80: 93.2 % of 4.1 GiB identical (2 added, 12 changed, 188 the same)
// Bytes that were not compared have no part in the percentage.
std::string SummaryText(const v1::DiffSummary& summary) {
  std::vector<std::string> counts;
  const auto count = [&](uint64_t number, absl::string_view what) {
    if (number > 0) counts.push_back(absl::StrCat(number, " ", what));
  };
  count(summary.added(), "added");
  count(summary.removed(), "removed");
  count(summary.reshaped(), "reshaped");
  count(summary.changed(), "changed");
  count(summary.unknown(), "unknown");
  count(summary.identical(), "the same");
  const std::string names =
      absl::StrCat(NameOf(summary.before()), " -> ", NameOf(summary.after()), ": ");
  if (counts.empty()) return absl::StrCat(names, "nothing is selected");
  const std::string counted = absl::StrCat(" (", absl::StrJoin(counts, ", "), ")");
  const uint64_t compared = summary.data_bytes() - summary.unknown_bytes();
  if (summary.unknown_bytes() > 0 && compared == 0) {
    return absl::StrCat(names, "not comparable: the two were cut into different shards", counted);
  }
  const std::string identical =
      absl::StrCat(names, PercentText(summary.identical_bytes(), compared), " of ",
                   PrintByteSize(compared), " identical", counted);
  if (summary.unknown_bytes() == 0) return identical;
  return absl::StrCat(identical, "; ", PrintByteSize(summary.unknown_bytes()),
                      " were cut into different shards and not compared");
}

// Differences as they come, then the summary, in each of the formats.
class DiffPrinter {
 public:
  DiffPrinter(OutputFormat format, bool summary_only)
      : format_(format),
        summary_only_(summary_only),
        table_(format, {{""}, {"KEY"}, {"CHANGE"}, {"DATA", true}}) {}

  void Add(const Difference& difference) {
    if (summary_only_) return;
    switch (format_) {
      case OutputFormat::kJson:
        list_.push_back(DifferenceJson(difference));
        break;
      case OutputFormat::kJsonLines:
        PrintJsonLine(DifferenceJson(difference));
        break;
      case OutputFormat::kTable: {
        any_ = true;
        const v1::Leaf& leaf = Shown(difference);
        std::string key = PrintKey(leaf.key());
        if (leaf.placement() == v1::PLACEMENT_PER_RANK) {
          absl::StrAppend(&key, " (rank ", difference.rank(), ")");
        }
        table_.Add(Json(), {std::string(Mark(difference.kind())), key, ChangeText(difference),
                            IsTensorKind(leaf.kind()) ? PrintByteSize(difference.data_bytes())
                                                      : "-"});
        break;
      }
    }
  }

  void Finish(const v1::DiffSummary& summary) {
    if (format_ == OutputFormat::kTable) {
      if (any_) table_.Finish("");
      std::puts(Printable(SummaryText(summary)).c_str());
      return;
    }
    Json json;
    if (format_ == OutputFormat::kJsonLines) json["kind"] = "summary";
    json.update(SummaryJson(summary));
    if (format_ == OutputFormat::kJson) json["differences"] = std::move(list_);
    PrintRecord(format_, json, {});
  }

 private:
  const OutputFormat format_;
  const bool summary_only_;
  RecordPrinter table_;
  bool any_ = false;
  Json list_ = Json::array();
};

absl::StatusOr<v1::DiffCheckpointsRequest> RequestOf(const Arguments& arguments) {
  v1::DiffCheckpointsRequest request;
  const std::string& before = arguments.positionals()[0];
  CKPT_ASSIGN_OR_RETURN(*request.mutable_before(), ParseSelector(before));
  std::string after = arguments.positionals()[1];
  if (absl::StartsWith(after, "@")) after = request.before().run() + after;
  CKPT_ASSIGN_OR_RETURN(*request.mutable_after(), ParseSelector(after));
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selection(), SelectionOf(arguments));
  return request;
}

absl::StatusOr<ExitCode> Diff(VerbContext& context) {
  CKPT_ASSIGN_OR_RETURN(const v1::DiffCheckpointsRequest request, RequestOf(context.arguments));
  DiffPrinter printer(context.format, context.arguments.Has("summary"));
  grpc::ClientContext call;
  context.connection.Prepare(call);
  const auto reader = context.connection.catalog().DiffCheckpoints(&call, request);
  std::optional<v1::DiffSummary> summary;
  v1::DiffCheckpointsResponse response;
  while (reader->Read(&response)) {
    for (const Difference& difference : response.differences().differences()) {
      printer.Add(difference);
    }
    if (response.has_summary()) summary = response.summary();
  }
  CKPT_RETURN_IF_ERROR(context.connection.FromGrpc(reader->Finish()));
  if (!summary) return absl::InternalError("the daemon ended the diff before it was done");
  printer.Finish(*summary);
  const bool differ = summary->added() + summary->removed() + summary->reshaped() +
                          summary->changed() + summary->unknown() >
                      0;
  return differ && context.arguments.Has("exit-code") ? kExitDifferent : kExitOk;
}

}  // namespace

Verb CheckpointDiff() {
  return {
      .command =
          {.name = "checkpoint diff",
           .summary = "Show what differs between two checkpoints, reading no tensor",
           .positionals = {{.name = "BEFORE", .help = "RUN@STEP, RUN@latest, RUN@TAG"},
                           {.name = "AFTER", .help = "the same, or @STEP for the same run"}},
           .flags = WithSelectionFlags(
               {{.name = "exit-code", .help = "exit with 11 where they differ, instead of 0"},
                {.name = "summary", .help = "the last line alone", .letter = 's'}}),
           .details = absl::StrCat(
               "+ is only in AFTER, - only in BEFORE; ~ has another shape, type, placement or "
               "value, or other\nbytes: blocks of 1 MiB whose stored hashes differ. ? is cut into "
               "other shards, so that hashes say\nnothing.\n\n",
               kSelectionHelp)},
      .default_timeout = absl::Minutes(5),
      .run = Diff};
}

}  // namespace ckpt::cli
