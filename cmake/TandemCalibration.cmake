# What `tandem calibrate` finds for the default model in int8 and fp8, made with the program that was just built: the
# rounded weights are too large to be tracked. They stand in calibration/ beside the program, named after the weights'
# hash, where the program finds them, and are installed as share/tandem/calibration. fp8 is computed on the processor.
#
# Made again when the model or what calibration is made of changes, not with every change of the program.
option(TANDEM_CALIBRATE "Calibrate the default model's eight-bit precisions as part of the build" ON)
set(TANDEM_CALIBRATED int8 fp8 CACHE STRING "The precisions that are calibrated")

if(TARGET tandem AND TANDEM_CALIBRATE AND NOT TANDEM_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(calibration ${PROJECT_BINARY_DIR}/calibration)
  file(GLOB calibration_inputs CONFIGURE_DEPENDS
    models/emoji/*.json models/emoji/*.safetensors src/calibration/*.cc src/calibration/*.h src/samples/*.cc
    src/model/calibration.* src/model/rounded_weight.* src/cli/calibrate*.cc src/cli/write_calibration.cc)
  set(commands)
  # As many pictures as find the layer that int8 should keep back; fp8, which is simulated, takes longer and keeps none.
  set(samples_int8 512)
  set(samples_fp8 256)
  foreach(precision IN LISTS TANDEM_CALIBRATED)
    list(APPEND commands COMMAND ${CMAKE_COMMAND} -E env TANDEM_MODELS=${PROJECT_SOURCE_DIR}/models
      $<TARGET_FILE:tandem> calibrate --model emoji --data emoji --samples ${samples_${precision}}
      --device cpu --precision ${precision} --output ${calibration} --quiet)
  endforeach()
  add_custom_command(
    OUTPUT ${PROJECT_BINARY_DIR}/generated/calibration.stamp
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${calibration}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${calibration}
    ${commands}
    COMMAND ${CMAKE_COMMAND} -E touch ${PROJECT_BINARY_DIR}/generated/calibration.stamp
    DEPENDS ${calibration_inputs}
    COMMENT "Calibrating the default model in ${TANDEM_CALIBRATED}" VERBATIM)
  add_custom_target(calibration ALL DEPENDS ${PROJECT_BINARY_DIR}/generated/calibration.stamp)
  add_dependencies(calibration tandem)
  install(DIRECTORY ${calibration}/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/calibration)
endif()
