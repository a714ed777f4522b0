#include "common/checkpoint_id.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

bool IsNameCharacter(char c) { return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-'; }

bool AllDigits(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

absl::Status BadSelector(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("not a checkpoint name: ", Quoted(text), " (", why,
                   "); write RUN@STEP, RUN@latest, RUN@latest-valid or RUN@TAG"));
}

}  // namespace

absl::Status ValidateRun(absl::string_view run) {
  auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("bad run name ", Quoted(run), ": ", why));
  };
  if (run.empty()) return refuse("it is empty");
  if (run.size() > kRunBytesMax) {
    return refuse(absl::StrCat("longer than ", kRunBytesMax, " bytes"));
  }
  for (absl::string_view segment : absl::StrSplit(run, '/')) {
    if (segment.empty()) return refuse("a segment between slashes is empty");
    if (segment == "." || segment == "..") return refuse("a segment is '.' or '..'");
    for (const char c : segment) {
      if (!IsNameCharacter(c)) {
        return refuse("only A-Z, a-z, 0-9, '.', '_', '-' and '/' between segments are allowed");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateStep(uint64_t step) {
  if (step <= kStepMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("bad step ", step, ": greater than ", kStepMax));
}

absl::Status ValidateTag(absl::string_view tag) {
  auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("bad tag ", Quoted(tag), ": ", why));
  };
  if (tag.empty()) return refuse("it is empty");
  if (tag.size() > kTagBytesMax) {
    return refuse(absl::StrCat("longer than ", kTagBytesMax, " bytes"));
  }
  for (const char c : tag) {
    if (!IsNameCharacter(c)) return refuse("only A-Z, a-z, 0-9, '.', '_' and '-' are allowed");
  }
  if (AllDigits(tag)) return refuse("all digits would read as a step");
  if (tag == "latest" || tag == "latest-valid") return refuse("the word has a meaning of its own");
  return absl::OkStatus();
}

absl::StatusOr<CheckpointId> CheckpointId::FromProto(const v1::CheckpointId& proto) {
  CKPT_RETURN_IF_ERROR(ValidateRun(proto.run()));
  CKPT_RETURN_IF_ERROR(ValidateStep(proto.step()));
  CheckpointId id;
  id.run = proto.run();
  id.step = proto.step();
  CKPT_ASSIGN_OR_RETURN(id.incarnation, Incarnation::FromBytes(proto.incarnation(), "incarnation"));
  return id;
}

v1::CheckpointId CheckpointId::ToProto() const {
  v1::CheckpointId proto;
  proto.set_run(run);
  proto.set_step(step);
  proto.set_incarnation(incarnation.bytes());
  return proto;
}

std::string CheckpointId::ToString() const {
  return absl::StrCat(run, "@", step, " (incarnation ", incarnation.hex().substr(0, 8), ")");
}

absl::StatusOr<v1::Selector> ParseSelector(absl::string_view text) {
  const size_t at = text.rfind('@');
  if (at == absl::string_view::npos) return BadSelector(text, "no '@'");
  const absl::string_view run = text.substr(0, at);
  const absl::string_view which = text.substr(at + 1);
  CKPT_RETURN_IF_ERROR(ValidateRun(run));
  v1::Selector selector;
  selector.set_run(std::string(run));
  if (which.empty()) return BadSelector(text, "nothing after '@'");
  if (which == "latest") {
    selector.set_latest(true);
  } else if (which == "latest-valid") {
    selector.set_latest_valid(true);
  } else if (AllDigits(which)) {
    uint64_t step = 0;
    if (!absl::SimpleAtoi(which, &step) || step > kStepMax) {
      return BadSelector(text, absl::StrCat("the step is greater than ", kStepMax));
    }
    selector.set_step(step);
  } else {
    CKPT_RETURN_IF_ERROR(ValidateTag(which));
    selector.set_tag(std::string(which));
  }
  return selector;
}

std::string PrintSelector(const v1::Selector& selector) {
  switch (selector.which_case()) {
    case v1::Selector::kStep: {
      std::string text = absl::StrCat(selector.run(), "@", selector.step());
      if (selector.incarnation().size() == 16) {
        absl::StrAppend(&text, " (incarnation ",
                        internal::Hex(absl::string_view(selector.incarnation()).substr(0, 4)), ")");
      }
      return text;
    }
    case v1::Selector::kTag:
      return absl::StrCat(selector.run(), "@", selector.tag());
    case v1::Selector::kLatest:
      return absl::StrCat(selector.run(), "@latest");
    case v1::Selector::kLatestValid:
      return absl::StrCat(selector.run(), "@latest-valid");
    case v1::Selector::WHICH_NOT_SET:
      break;
  }
  return absl::StrCat(selector.run(), "@?");
}

}  // namespace ckpt
