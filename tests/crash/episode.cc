#include "tests/crash/episode.h"

#include <signal.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "common/status_macros.h"
#include "tests/crash/bystanders.h"
#include "tests/crash/history.h"
#include "tests/crash/job.h"
#include "tests/crash/oracle.h"
#include "tests/crash/power_disk.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/daemon_calls.h"
#include "tests/fixtures/process.h"

namespace ckpt::testing {
namespace {

namespace fs = std::filesystem;

bool DaemonDies(Victim victim) { return victim != Victim::kOneRank && victim != Victim::kAllRanks; }

class Episode {
 public:
  Episode(const EpisodeOptions& options, Figures& figures)
      : options_(options),
        figures_(figures),
        schedule_(options.seed, options.power),
        history_(options.folder + "/history", schedule_.retention()) {}

  absl::Status Play() {
    CKPT_RETURN_IF_ERROR(Start());
    for (uint32_t run = 0; run < options_.runs && absl::Now() < options_.until; ++run) {
      CKPT_RETURN_IF_ERROR(Run(schedule_.Run(run)));
    }
    return End();
  }

  // For whoever looks into a failure, before the daemon's own folders go.
  void Keep() {
    if (daemon_ == nullptr) return;
    daemon_->Kill();
    std::ofstream(options_.folder + "/daemon.log") << daemon_->Log();
    std::error_code ignored;
    fs::copy(daemon_->memory_folder(), options_.folder + "/memory",
             fs::copy_options::recursive, ignored);
  }

 private:
  absl::Status Start() {
    std::string data = options_.folder;
    if (options_.power) {
      CKPT_ASSIGN_OR_RETURN(disk_, PowerDisk::Make(options_.folder));
      data = disk_->path();
    }
    CKPT_ASSIGN_OR_RETURN(
        daemon_,
        Daemon::Start({.memory_budget = absl::StrCat(schedule_.memory_budget() >> 20, "MiB"),
                       .grace = absl::FormatDuration(schedule_.grace()),
                       .drain_deadline = absl::FormatDuration(schedule_.drain_deadline()),
                       .log_level = "info",
                       .flags = schedule_.retention()
                                    ? std::vector<std::string>{absl::StrCat("--keep-last=", kKept)}
                                    : std::vector<std::string>(),
                       .data_folder = data + "/data"}));
    ++figures_.starts;
    job_ = std::make_unique<Job>(daemon_->socket(), &schedule_, &history_);
    calls_ = std::make_unique<DaemonCalls>(daemon_->socket());
    oracle_ = std::make_unique<Oracle>(daemon_.get(), calls_.get(), &history_);
    CKPT_ASSIGN_OR_RETURN(client_, Client::Connect({.socket = daemon_->socket(),
                                                    .name = "bystander",
                                                    .connect_timeout = absl::Seconds(60)}));
    return absl::OkStatus();
  }

  absl::Status Run(const RunPlan& run) {
    history_.Note(absl::StrCat("run ", run.number, ": ", NameOf(run.victim)));
    const absl::Time began = absl::Now();
    CKPT_RETURN_IF_ERROR(job_->Launch(run, oracle_->newest()));
    std::atomic<bool> struck{false}, stop_saving{false}, stop_bystanders{false};
    absl::Status strike, reading, operating;
    Operated operated;
    std::thread chaos([&] {
      strike = Strike(run, struck, stop_saving);
      stop_saving = true;
    });
    std::thread reader([&] {
      reading = RestoreNewest(*client_, history_, run.restore_by_stream, stop_bystanders,
                              figures_.restored_meanwhile);
    });
    std::thread operating_thread([&] {
      operating = Operate(*calls_, history_, options_.seed + run.number, stop_bystanders, operated);
    });
    const absl::Status saving = job_->Save(stop_saving, struck);
    stop_saving = true;
    chaos.join();
    const absl::Time struck_at = absl::Now();
    absl::Status recovered;
    if (strike.ok()) recovered = Recover(run);
    stop_bystanders = true;
    reader.join();
    operating_thread.join();
    for (const absl::Status& status : {saving, strike, reading, operating, recovered}) {
      CKPT_RETURN_IF_ERROR(status);
    }
    const absl::Time recovered_at = absl::Now();
    CKPT_RETURN_IF_ERROR(oracle_->Check(*client_, run.restore_by_stream));
    ++figures_.runs;
    ++figures_.by_victim[static_cast<size_t>(run.victim)];
    figures_.deleted += operated.deleted;
    figures_.tagged += operated.tagged;
    figures_.storm += struck_at - began;
    figures_.recovery += recovered_at - struck_at;
    figures_.oracle += absl::Now() - recovered_at;
    return absl::OkStatus();
  }

  // On a thread of its own, which alone touches the daemon meanwhile.
  absl::Status Strike(const RunPlan& run, std::atomic<bool>& struck,
                      const std::atomic<bool>& saving_is_over) {
    while (job_->steps_staged() < run.steps_before && !saving_is_over) {
      absl::SleepFor(absl::Microseconds(200));
    }
    absl::SleepFor(run.delay);  // a moment drawn for the fault: nothing waits for it
    struck = true;
    history_.Note("strike");
    switch (run.victim) {
      case Victim::kDaemon:
        daemon_->Kill();
        break;
      case Victim::kDaemonAndOneRank:
        job_->Kill(run.rank);
        daemon_->Kill();
        break;
      case Victim::kEverybody:
        job_->KillAll();
        daemon_->Kill();
        break;
      case Victim::kOneRank:
        job_->Kill(run.rank);
        break;
      case Victim::kAllRanks:
        job_->KillAll();
        break;
      case Victim::kDrain: {
        CKPT_ASSIGN_OR_RETURN(const int exit_status, daemon_->Terminate());
        if (exit_status != 0) {
          return absl::InternalError(absl::StrCat("the drained daemon exits ", exit_status));
        }
        break;
      }
      case Victim::kKilledDrain:
        daemon_->Signal(SIGTERM);
        absl::SleepFor(run.drain_for);
        daemon_->Kill();
        break;
      case Victim::kPower:
        job_->KillAll();
        daemon_->Kill();  // first: it could tell of I/O errors that no power cut lets it see
        history_.PowerCut();
        return disk_->Cut();
    }
    return absl::OkStatus();
  }

  absl::Status Recover(const RunPlan& run) {
    const bool died = DaemonDies(run.victim);
    if (run.victim == Victim::kPower) CKPT_RETURN_IF_ERROR(PowerOn());
    if (died) CKPT_RETURN_IF_ERROR(StartAgain(run));
    return job_->Settle(died);
  }

  absl::Status PowerOn() {
    for (const auto& entry : fs::directory_iterator(daemon_->memory_folder())) {
      fs::remove_all(entry.path());
    }
    return disk_->PowerOn();
  }

  absl::Status StartAgain(const RunPlan& run) {
    const std::vector<std::string> flags = {
        absl::StrCat("--persist-delay=", absl::FormatDuration(run.persist_delay))};
    for (const absl::Duration life : run.short_lives) {
      CKPT_RETURN_IF_ERROR(daemon_->Spawn(flags));
      absl::SleepFor(life);
      daemon_->Kill();
      ++figures_.starts;
      ++figures_.killed_starting;
      history_.Note("killed again");
    }
    CKPT_RETURN_IF_ERROR(daemon_->Restart(flags));
    ++figures_.starts;
    history_.Note("serving");
    CKPT_RETURN_IF_ERROR(calls_->AwaitConnected());
    CKPT_ASSIGN_OR_RETURN(const v1::GetStatusResponse status, calls_->Status());
    figures_.adopted_parts += status.adopted_parts();
    return absl::OkStatus();
  }

  absl::Status End() {
    for (const Attempt& attempt : history_.attempts()) {
      ++figures_.begun;
      figures_.staged += attempt.staged ? 1 : 0;
      figures_.committed += attempt.committed ? 1 : 0;
    }
    figures_.retired += history_.retired();
    figures_.restored_meanwhile += job_->restores();
    figures_.restored_after += oracle_->restored();
    job_.reset();
    client_.reset();
    CKPT_ASSIGN_OR_RETURN(const int exit_status, daemon_->Terminate());
    if (exit_status != 0) {
      return absl::InternalError(absl::StrCat("the daemon exits ", exit_status));
    }
    CKPT_ASSIGN_OR_RETURN(const CommandResult verified,
                          RunCommand({BuiltBinary("ckptutil"), "verify", daemon_->data_folder()}));
    if (verified.exit_status == 0) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat("ckptutil verify: ", verified.output, verified.errors));
  }

  const EpisodeOptions& options_;
  Figures& figures_;
  const Schedule schedule_;
  History history_;
  std::unique_ptr<PowerDisk> disk_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Job> job_;
  std::unique_ptr<DaemonCalls> calls_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Oracle> oracle_;
};

}  // namespace

void Figures::Add(const Figures& other) {
  runs += other.runs;
  for (size_t i = 0; i < by_victim.size(); ++i) by_victim[i] += other.by_victim[i];
  starts += other.starts;
  killed_starting += other.killed_starting;
  begun += other.begun;
  staged += other.staged;
  committed += other.committed;
  adopted_parts += other.adopted_parts;
  deleted += other.deleted;
  retired += other.retired;
  tagged += other.tagged;
  restored_meanwhile += other.restored_meanwhile;
  restored_after += other.restored_after;
  storm += other.storm;
  recovery += other.recovery;
  oracle += other.oracle;
}

absl::Status PlayEpisode(const EpisodeOptions& options, Figures& figures) {
  PowerDisk::Detach(options.folder);  // of a loop that was killed
  fs::remove_all(options.folder);
  fs::create_directories(options.folder);
  absl::Status status;
  {
    Episode episode(options, figures);
    status = episode.Play();
    if (!status.ok()) episode.Keep();
  }
  if (status.ok() || absl::IsPermissionDenied(status)) fs::remove_all(options.folder);
  return status;
}

}  // namespace ckpt::testing
