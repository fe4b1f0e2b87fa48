// Runs one program on the machine and says PASS, or what differs: memory against expected_0.hex, the cycle counter
// against CYCLES. It needs bench.v, the machine's Verilog and, in the working folder, image_0.hex and expected_0.hex.

`timescale 1ns/1ns

module testbench;
    // PARAMETERS

    localparam STATUS = 12'h00c, ERROR = 12'h010, ERROR_INDEX = 12'h014, CYCLES_LOW = 12'h028;
    localparam MOST_SHOWN = 10;

    reg clk, rst, load_request, dump_request, host_request, host_write, armed;
    reg [11:0] host_address;
    reg [31:0] host_data;
    wire load_done, dump_done, host_done, finished, timed_out;
    wire [31:0] host_value, cycle, breaches;
    wire [1:0] host_result;
    reg [31:0] expected [0:WORDS-1];
    integer i, wrong;

    hwsim_bench #(
        .BEAT_BYTES(BEAT_BYTES), .FETCH_BYTES(FETCH_BYTES), .LATENCY(LATENCY), .MEMORY_WORDS(MEMORY_WORDS),
        .QUEUE_BITS(QUEUE_BITS)
    ) bench (
        .clk(clk), .rst(rst), .file_index(32'd0), .first_word(32'd0), .words(WORDS),
        .load_request(load_request), .load_done(load_done),
        .dump_request(dump_request), .dump_done(dump_done), .slack(32'd0), .seed(32'd1), .bad_first(32'd0),
        .bad_last(32'd0), .host_request(host_request), .host_write(host_write), .host_address(host_address),
        .host_data(host_data), .host_done(host_done), .host_value(host_value), .host_result(host_result),
        .armed(armed), .most_cycles(MOST_CYCLES), .finished(finished), .timed_out(timed_out), .cycle(cycle),
        .breaches(breaches)
    );

    always #1 clk = ~clk;

    task access;
        input write;
        input [11:0] address;
        input [31:0] data;
        begin
            @(negedge clk);
            host_write = write;
            host_address = address;
            host_data = data;
            host_request = ~host_request;
            @(negedge clk);
            while (host_done !== host_request) @(negedge clk);
        end
    endtask

    task check;
        input [11:0] address;
        input [31:0] value;
        input [8*16-1:0] name;
        begin
            access(1'b0, address, 32'd0);
            if (host_value !== value) begin
                $display("FAIL: %0s is %0d, expected %0d", name, host_value, value);
                wrong = wrong + 1;
            end
        end
    endtask

    initial begin
        {clk, load_request, dump_request, host_request, host_write, armed} = 0;
        rst = 1;
        wrong = 0;
        host_address = 0;
        host_data = 0;
        $readmemh("expected_0.hex", expected, 0, WORDS - 1);
        repeat (4) @(negedge clk);
        rst = 0;
        @(negedge clk) load_request = 1;
        while (load_done !== 1'b1) @(negedge clk);
        access(1'b1, 12'h018, PROGRAM);
        access(1'b1, 12'h01c, COMMANDS);
        access(1'b1, 12'h020, LIMIT);
        access(1'b1, 12'h024, SEED);
        access(1'b1, 12'h034, 32'd1);
        armed = 1;
        access(1'b1, 12'h008, 32'd1);
        while (finished !== 1'b1) @(negedge clk);
        if (timed_out) begin
            $display("FAIL: no end after %0d cycles", MOST_CYCLES);
            wrong = wrong + 1;
        end
        check(ERROR, 32'd0, "the error code");
        check(STATUS, 32'd2, "the status");
        check(CYCLES_LOW, CYCLES, "the cycles");
        if (breaches !== 0) begin
            $display("FAIL: %0d breaches of AXI4 or accesses beyond the memory", breaches);
            wrong = wrong + 1;
        end
        for (i = 0; i < WORDS; i = i + 1)
            if (bench.memory.memory[i] !== expected[i]) begin
                if (wrong < MOST_SHOWN)
                    $display("FAIL: memory at %h is %h, expected %h", 4 * i, bench.memory.memory[i], expected[i]);
                wrong = wrong + 1;
            end
        armed = 0;
        @(negedge clk);
        if (wrong == 0) $display("PASS: %0d commands in %0d cycles, %0d bytes of memory", COMMANDS, CYCLES, 4 * WORDS);
        else $display("FAIL: %0d differences", wrong);
        $finish;
    end
endmodule
