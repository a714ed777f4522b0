# `cmake --install`: the programs, the public headers and a CMake package. Outside projects say find_package(ckptd) and link
# ckpt::client, or ckpt::torch.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(header_root ${CMAKE_INSTALL_INCLUDEDIR}/ckptd)
set(package_root ${CMAKE_INSTALL_LIBDIR}/cmake/ckptd)

foreach(pair ckpt_options:options ckpt_proto:proto ckpt_grpc:grpc ckpt_common:common ckpt_client:client)
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 target)
  list(GET pair 1 name)
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(${target} INTERFACE $<INSTALL_INTERFACE:${header_root}>)
  install(TARGETS ${target} EXPORT ckptdTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  if(NOT TARGET ckpt::${name})
    add_library(ckpt::${name} ALIAS ${target})
  endif()
endforeach()
install(EXPORT ckptdTargets NAMESPACE ckpt:: DESTINATION ${package_root})

if(TARGET ckpt_torch)
  set_target_properties(ckpt_torch PROPERTIES EXPORT_NAME torch)
  target_include_directories(ckpt_torch INTERFACE $<INSTALL_INTERFACE:${header_root}>)
  install(TARGETS ckpt_torch EXPORT ckptdTorchTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT ckptdTorchTargets NAMESPACE ckpt:: DESTINATION ${package_root})
  install(FILES client/torch/checkpointer.h client/torch/launch.h client/torch/state.h DESTINATION ${header_root}/client/torch)
  add_library(ckpt::torch ALIAS ckpt_torch)
endif()

# What callers include, and what that includes in turn: Package.* compiles each of them alone.
foreach(header client/client.h client/restore/restore.h client/save/save.h client/state/part.h client/transport/tls_options.h
        common/box.h common/checkpoint_id.h common/dtype.h common/ids.h common/key.h common/layout.h common/leaf_table.h
        common/shard_table.h)
  cmake_path(GET header PARENT_PATH room)
  install(FILES ${header} DESTINATION ${header_root}/${room})
endforeach()
install(DIRECTORY ${CMAKE_BINARY_DIR}/proto/ckpt DESTINATION ${header_root} FILES_MATCHING PATTERN "*.h")
install(DIRECTORY proto/ckpt DESTINATION ${CMAKE_INSTALL_DATADIR}/ckptd/proto FILES_MATCHING PATTERN "*.proto")
foreach(program ckptd ckptctl ckptutil)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT programs)
  endif()
endforeach()

configure_package_config_file(deploy/package/ckptdConfig.cmake.in ${CMAKE_BINARY_DIR}/ckptdConfig.cmake INSTALL_DESTINATION ${package_root})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/ckptdConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ckptdConfig.cmake ${CMAKE_BINARY_DIR}/ckptdConfigVersion.cmake DESTINATION ${package_root})
