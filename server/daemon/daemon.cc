// Start, in order:
//
//   1. folders made and checked; the socket's lock taken (a second daemon ends here)
//   2. data folder opened and locked; index opened. What does not fit on a full disk, here and in
//      step 4, is done with the ballast's room.
//   3. memory folder opened and locked: what an earlier daemon staged is read. Before step 2 where
//      the data folder is empty: of the two, only one that was there before can refuse a start, and
//      then nothing has been put into the other. A start that is refused up to here leaves nothing.
//   4. data folder compared with the index: lost entries indexed, deletions finished, orphans
//      removed - but for parts that step 3 knows as durable and not yet committed
//   5. staged parts adopted: they are persisted in the background from here on
//   6. retention looks at all runs, in a thread of its own
//   7. session socket, then gRPC: the daemon serves, and the scrubber begins
//
// Stop: health says NOT_SERVING, no new checkpoints, wait for what is staged, then all waiting ends
// with UNAVAILABLE, then gRPC, sessions and the rooms go, in the opposite order.
#include "server/daemon/daemon.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "server/access/allowed_peers.h"
#include "server/access/gatekeeper.h"
#include "server/daemon/folders.h"
#include "server/daemon/grpc_face.h"
#include "server/daemon/socket_lock.h"
#include "server/daemon/tls_credentials.h"
#include "server/daemon/tls_files.h"
#include "server/index/index.h"
#include "server/observe/log.h"
#include "server/persist/persister.h"
#include "server/quota/quota_file.h"
#include "server/retention/retention.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/catalog_service.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/restore_service.h"
#include "server/rpc/retention_service.h"
#include "server/rpc/save_service.h"
#include "server/rpc/stalled_readers.h"
#include "server/scrub/scrubber.h"
#include "server/session/session.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/memory_blocks.h"
#include "server/staging/memory_tier.h"
#include "server/storage/ballast.h"
#include "server/storage/data_folder.h"

namespace ckpt {
namespace {

// For calls that are at work when everything that waits has been told to end.
constexpr absl::Duration kCallsEndWithin = absl::Seconds(2);
// RocksDB looks every five seconds whether there is room again.
constexpr absl::Duration kBallastRests = absl::Seconds(15);

class RunningDaemon final : public Daemon {
 public:
  RunningDaemon(Config config, std::function<void()> broken)
      : config_(std::move(config)),
        broken_(std::move(broken)),
        peers_(config_.allow_uids, config_.allow_gids) {}
  ~RunningDaemon() override { EndCalls(); }

  absl::Status Open() {
    RetentionPolicies::Settings retention{.defaults = config_.retention};
    if (!config_.retention_file.empty()) {
      CKPT_ASSIGN_OR_RETURN(retention.sections, ReadRetentionFile(config_.retention_file));
    }
    CKPT_ASSIGN_OR_RETURN(gatekeeper_, Gatekeeper::Open({.socket_rights = config_.socket_rights,
                                                         .token_file = config_.token_file,
                                                         .tcp = !config_.listen.empty()}));
    if (!config_.quota_file.empty()) {
      CKPT_ASSIGN_OR_RETURN(std::vector<QuotaSection> sections, ReadQuotaFile(config_.quota_file));
      quotas_ = Quotas(std::move(sections));
    }
    if (!config_.tls_cert.empty()) {
      CKPT_ASSIGN_OR_RETURN(
          tls_files_,
          TlsFiles::Open({config_.tls_cert, config_.tls_key, config_.tls_client_ca}));
    }
    CKPT_RETURN_IF_ERROR(OpenFolders());
    CKPT_RETURN_IF_ERROR(Recover());
    PersistOptions persist;
    persist.writer_threads = static_cast<int>(config_.writer_threads);
    persist.delay = config_.persist_delay;
    persist.hash_blocks = config_.hash_blocks;
    persist.ballast = ballast_.get();
    if (!config_.hash_blocks) {
      observe::Warning("--hash-blocks=false: what is saved from now on fails every check");
    }
    persister_ = std::make_unique<Persister>(folder_.get(), index_.get(), persist);
    retention_ = std::make_unique<Retention>(
        RetentionOptions{.folder = folder_.get(),
                         .index = index_.get(),
                         .persister = persister_.get(),
                         .settings = std::move(retention)});
    CKPT_RETURN_IF_ERROR(OpenTable());
    CKPT_RETURN_IF_ERROR(StartRetention());
    CKPT_RETURN_IF_ERROR(Serve());
    MutexLock lock(broken_mutex_);
    started_ = broken_why_.ok();
    return broken_why_;
  }

  uint32_t Stop() override {
    observe::Info("stopping: no new checkpoints are admitted",
                  {{"parts_not_durable", table_->parts_not_durable()},
                   {"open_saves", table_->open_saves()},
                   {"drain_deadline", config_.drain_deadline}});
    grpc_->SetNotServing();
    table_->StopAdmitting();
    const uint32_t left =
        table_->WaitDrained(absl::Now() + config_.drain_deadline, [] { return false; });
    if (left > 0) {
      observe::Warning("drain deadline passed: the rest stays staged for the next daemon",
                       {{"parts_left", left}});
    }
    EndCalls();
    return left;
  }

  int tcp_port() const override { return grpc_->tcp_port(); }

 private:
  absl::Status OpenFolders() {
    MadeFolders made;
    CKPT_RETURN_IF_ERROR(PrepareFolders(config_, made));
    CKPT_ASSIGN_OR_RETURN(socket_lock_, SocketLock::Take(config_.socket));
    std::error_code error;
    const bool memory_first = std::filesystem::is_empty(config_.data_dir, error);
    absl::Status opened = memory_first ? OpenMemory() : OpenData();
    if (opened.ok()) opened = memory_first ? OpenData() : OpenMemory();
    if (opened.ok()) {
      made.Keep();
    } else {
      socket_lock_->Discard();
    }
    return opened;
  }

  absl::Status OpenData() {
    CKPT_ASSIGN_OR_RETURN(folder_, DataFolder::Open(PosixFileSystem(), config_.data_dir));
    ballast_ = std::make_unique<Ballast>(folder_.get());
    return WithBallast([this] { return OpenIndex(); });
  }

  absl::Status OpenIndex() {
    index_.reset();
    {
      MutexLock lock(broken_mutex_);
      broken_why_ = absl::OkStatus();
    }
    const IndexTroubles troubles{.full = [this] { GiveUpBallast(kBallastRests); },
                                 .broken = [this](const absl::Status& why) { Broken(why); }};
    CKPT_ASSIGN_OR_RETURN(index_, Index::Open(folder_->IndexFolder(), nullptr, troubles));
    ballast_->EndRest();
    return absl::OkStatus();
  }

  // A step of the start. Where the disk has no room for it, once more with the ballast's.
  absl::Status WithBallast(absl::FunctionRef<absl::Status()> step) {
    const bool ballast = ballast_->bytes() > 0;
    absl::Status done = step();
    if (!absl::IsResourceExhausted(done) || !ballast) return done;
    GiveUpBallast();  // unless the step has done so
    return step();
  }

  void GiveUpBallast(absl::Duration rest = absl::ZeroDuration()) {
    const uint64_t bytes = ballast_->GiveUp(rest);
    if (bytes == 0) return;
    observe::Warning("the disk is full: the ballast is given up, so that the index can be written",
                     {{"data_dir", config_.data_dir}, {"bytes", bytes}});
  }

  void Broken(const absl::Status& why) {
    {
      MutexLock lock(broken_mutex_);
      broken_why_.Update(why);
      if (!started_) return;
    }
    observe::Error("the index takes no more writes until it is opened again: this daemon ends",
                   {{"error", why}});
    if (broken_ != nullptr) broken_();
  }

  absl::Status OpenMemory() {
    MemoryTierOptions memory;
    memory.folder = config_.memory_dir;
    memory.budget_bytes = config_.memory_budget;
    CKPT_ASSIGN_OR_RETURN(tier_, MemoryTier::Open(std::move(memory)));
    return absl::OkStatus();
  }

  absl::Status Recover() {
    bool again = false;
    return WithBallast([&] {
      // One that did not fit takes no batches for a while.
      if (std::exchange(again, true)) CKPT_RETURN_IF_ERROR(OpenIndex());
      return RecoverFolder();
    });
  }

  absl::Status RecoverFolder() {
    CKPT_ASSIGN_OR_RETURN(
        const RecoveryReport report,
        RecoverDataFolder(folder_.get(), index_.get(), tier_->RecordedPartManifests()));
    observe::Info("data folder recovered", {{"checkpoints", report.checkpoints},
                                            {"indexed", report.indexed},
                                            {"deletions_finished", report.deletions_finished},
                                            {"orphans_removed", report.orphans_removed},
                                            {"damaged", report.damaged}});
    return absl::OkStatus();
  }

  absl::Status OpenTable() {
    CheckpointTableOptions options;
    options.tier = tier_.get();
    options.persister = persister_.get();
    options.index = index_.get();
    options.folder = folder_.get();
    options.grace = config_.grace;
    options.join_deadline = config_.join_deadline;
    options.save_lifetime = config_.save_lifetime;
    options.quotas = quotas_;
    options.settled = [this](const std::string& run) { retention_->RunChanged(run); };
    options.make_room = [this] { return retention_->MakeRoom(); };
    CKPT_ASSIGN_OR_RETURN(table_, CheckpointTable::Create(options));
    adopted_ = table_->Adopt();
    observe::Info("memory folder adopted", {{"parts", adopted_.parts},
                                            {"checkpoints", adopted_.checkpoints},
                                            {"copies", adopted_.copies},
                                            {"damaged", adopted_.damaged}});
    return absl::OkStatus();
  }

  absl::Status StartRetention() {
    finder_ = std::make_unique<CheckpointFinder>(index_.get(), folder_.get(), tier_.get());
    CKPT_RETURN_IF_ERROR(finder_->damage().Load());  // else the last good one might be deleted
    retention_->Start(
        {.activity =
             [this](const std::string& run) {
               CheckpointTable::RunActivity activity = table_->ActivityOf(run);
               return RunActivity{std::move(activity.steps_in_flight), activity.resumed_step};
             },
         .deleted =
             [this](const CheckpointRecord& record) {
               CheckpointDeleted(record, *tier_, *table_, finder_->damage());
             },
         .damaged = [this](CheckpointUid uid) { return finder_->damage().IsDamaged(uid); }});
    return absl::OkStatus();
  }

  absl::Status Serve() {
    const auto authorize = [this](const PeerCredentials& peer) { return peers_.Admit(peer); };
    const Gate gate(gatekeeper_.get(), finder_.get());
    SessionServerOptions sessions;
    sessions.socket_path = config_.socket + ".fd";
    sessions.socket_mode = config_.socket_mode;
    sessions.daemon_version = VersionText();
    sessions.sessions_max = config_.sessions_max;
    sessions.authorize = authorize;
    CKPT_ASSIGN_OR_RETURN(sessions_, SessionServer::Start(std::move(sessions)));

    ScrubOptions scrub;
    scrub.bytes_per_second = config_.scrub_rate;
    scrub.interval = config_.scrub_interval;
    scrub.busy = [persister = persister_.get()] { return persister->parts_at_work() > 0; };
    scrub.source = &memory_blocks_.emplace(tier_.get());
    scrubber_ = std::make_unique<Scrubber>(folder_.get(), index_.get(), &finder_->damage(),
                                           std::move(scrub));
    catalog_ = std::make_unique<Catalog>(Catalog{index_.get(), folder_.get(), persister_.get(),
                                                 table_.get(), tier_.get(), finder_.get(),
                                                 retention_.get()});
    plans_ = std::make_unique<PlanTable>();
    catalog_service_ = std::make_unique<CatalogService>(catalog_.get(), gate, &stop_, &readers_);
    restore_service_ = std::make_unique<RestoreService>(
        Restore{index_.get(), folder_.get(), table_.get(), tier_.get(), finder_.get(), plans_.get(),
                &groups_, sessions_.get()},
        gate, &stop_, &readers_);
    retention_service_ =
        std::make_unique<RetentionService>(retention_.get(), finder_.get(), gate, &stop_,
                                           &readers_);
    Admin admin;
    admin.version = VersionText();
    admin.memory_folder = config_.memory_dir;
    admin.started_at = absl::Now();
    admin.adopted_parts = adopted_.parts;
    admin.index = index_.get();
    admin.folder = folder_.get();
    admin.persister = persister_.get();
    admin.tier = tier_.get();
    admin.table = table_.get();
    admin.sessions = sessions_.get();
    admin.plans = plans_.get();
    admin.scrubber = scrubber_.get();
    admin.damage = &finder_->damage();
    admin.retention = retention_.get();
    admin_service_ = std::make_unique<AdminService>(std::move(admin), gate, &stop_);
    SaveServiceOptions save;
    save.sessions = sessions_.get();
    save.table = table_.get();
    save.tier = tier_.get();
    save.gate = gate;
    save_service_ = std::make_unique<SaveService>(save);

    GrpcFaceOptions face;
    face.socket = config_.socket;
    face.socket_mode = config_.socket_mode;
    face.authorize = authorize;
    face.listen = config_.listen;
    if (tls_files_ != nullptr) face.listen_credentials = MakeTlsCredentials(tls_files_);
    face.services = {save_service_->service(), restore_service_.get(), catalog_service_.get(),
                     retention_service_.get(), admin_service_.get()};
    CKPT_ASSIGN_OR_RETURN(grpc_, GrpcFace::Start(face));
    scrubber_->Start();
    observe::Info("serving", {{"socket", config_.socket},
                              {"tcp_port", grpc_->tcp_port()},
                              {"data_dir", config_.data_dir},
                              {"memory_dir", config_.memory_dir},
                              {"memory_budget", config_.memory_budget}});
    if (!config_.listen.empty() && tls_files_ == nullptr) {
      observe::Warning(config_.token_file.empty()
                           ? "the TCP port is neither encrypted nor authenticated"
                           : "the TCP port is not encrypted: tokens can be read on the way",
                       {{"listen", config_.listen}});
    }
    return absl::OkStatus();
  }

  // Steps that must come before anything that a call may touch is destroyed. Idempotent.
  void EndCalls() {
    stop_.Stop();
    if (persister_ != nullptr) persister_->StopWaiting();
    if (retention_ != nullptr) retention_->Stop();  // saves may wait for it, and it asks the table
    if (table_ != nullptr) table_->Shutdown();
    if (grpc_ != nullptr) grpc_->Stop(kCallsEndWithin);
    save_service_.reset();
    sessions_.reset();
  }

  // In the order of construction; destroyed in the opposite order, after EndCalls.
  Config config_;
  const std::function<void()> broken_;
  Mutex broken_mutex_;
  absl::Status broken_why_ ABSL_GUARDED_BY(broken_mutex_);
  bool started_ ABSL_GUARDED_BY(broken_mutex_) = false;
  StopSignal stop_;
  AllowedPeers peers_;
  std::unique_ptr<Gatekeeper> gatekeeper_;
  Quotas quotas_;
  std::shared_ptr<TlsFiles> tls_files_;  // null: none on the TCP port
  std::unique_ptr<SocketLock> socket_lock_;
  std::unique_ptr<DataFolder> folder_;
  std::unique_ptr<Ballast> ballast_;
  std::unique_ptr<Index> index_;
  std::unique_ptr<MemoryTier> tier_;
  std::unique_ptr<Persister> persister_;
  std::unique_ptr<Retention> retention_;
  std::unique_ptr<CheckpointTable> table_;
  CheckpointTable::Adopted adopted_;
  std::unique_ptr<SessionServer> sessions_;
  std::unique_ptr<CheckpointFinder> finder_;
  std::optional<MemoryBlocks> memory_blocks_;
  std::unique_ptr<Scrubber> scrubber_;
  std::unique_ptr<Catalog> catalog_;
  RestoreGroups groups_;
  std::unique_ptr<PlanTable> plans_;
  StalledReaders readers_;
  std::unique_ptr<CatalogService> catalog_service_;
  std::unique_ptr<RestoreService> restore_service_;
  std::unique_ptr<RetentionService> retention_service_;
  std::unique_ptr<AdminService> admin_service_;
  std::unique_ptr<SaveService> save_service_;
  std::unique_ptr<GrpcFace> grpc_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(Config config, std::function<void()> broken) {
  auto daemon = std::make_unique<RunningDaemon>(std::move(config), std::move(broken));
  CKPT_RETURN_IF_ERROR(daemon->Open());
  return daemon;
}

}  // namespace ckpt
