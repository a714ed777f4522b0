// Drain: no new checkpoints; wait until what is staged is durable.
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/observe/log.h"
#include "server/rpc/admin.h"

namespace ckpt {
namespace {

constexpr absl::Duration kDeadlineDefault = absl::Seconds(60);
constexpr absl::Duration kDeadlineMax = absl::Hours(24);

}  // namespace

absl::Status Drain(Admin& admin, const v1::DrainRequest& request,
                   absl::FunctionRef<bool()> cancelled, v1::DrainResponse& response) {
  absl::Duration deadline = kDeadlineDefault;
  if (request.has_deadline()) {
    deadline =
        absl::Seconds(request.deadline().seconds()) + absl::Nanoseconds(request.deadline().nanos());
  }
  if (deadline < absl::ZeroDuration() || deadline > kDeadlineMax) {
    return absl::InvalidArgumentError(absl::StrCat("deadline must be from 0 to ",
                                                   absl::FormatDuration(kDeadlineMax), ", got ",
                                                   absl::FormatDuration(deadline)));
  }
  if (request.resume()) {
    admin.table->Admit();
    observe::Info("drain ended: saves are admitted again");
    response.set_parts_left(admin.table->parts_not_durable());
    return absl::OkStatus();
  }
  admin.table->StopAdmitting();
  observe::Info("drain begun: no new checkpoints are admitted", {{"deadline", deadline}});
  const uint32_t left = admin.table->WaitDrained(absl::Now() + deadline, cancelled);
  response.set_parts_left(left);
  response.set_drained(left == 0);
  observe::Info("drain answered", {{"parts_left", left}});
  return absl::OkStatus();
}

}  // namespace ckpt
